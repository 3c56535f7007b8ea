"""The HER2ST folder layout (Andersson et al. 2021, public repository almaan/her2st)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from senca_ray import keys
from senca_ray.data.readers import her2st_layout
from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.her2st_files import (
    read_counts,
    read_image_size,
    read_labels,
    read_spot_file,
)
from senca_ray.data.readers.positions import frame_problem
from senca_ray.data.readers.tables import quantity, quote_some
from senca_ray.data.section import RawSection, SectionFiles
from senca_ray.errors import ProblemsError

SPOT_DISTANCE_UM = 200.0
"""Centre to centre on the arrays of 1,007 spots (33 x 35 places): Ståhl et al., Science 2016."""


class Her2stReader:
    """Reads cohorts in the HER2ST folder layout.

    `ST-cnts/SAMPLE.tsv.gz` (or .tsv; spots by genes, spots named by array coordinates as in 10x13),
    `ST-spotfiles/SAMPLE_selection.tsv`, `ST-pat/lbl/SAMPLE_labeled_coordinates.tsv` and one image in
    `ST-imgs/PATIENT/SAMPLE/`; all but the counts are optional, an image needs the spot file. The patient is
    the leading letters of the sample id. Labels of further annotators of a section are kept apart:
    `ST-pat/lbl/SAMPLE_labeled_coordinates.ANNOTATOR.tsv`.

    Where the labels come from: a `cohort.yaml` beside `ST-cnts` with the one entry `labels` (annotated,
    transferred or simulated) speaks for all sections. Without it the eight sections that were annotated in
    the public set (A1 B1 C1 D1 E1 F1 G2 H1) are annotated and every other section with a label file is
    transferred, because the public set annotates no other.
    """

    name = "her2st"
    expects = "a folder ST-cnts with SAMPLE.tsv.gz files, here or in data/"

    def recognises(self, root: Path) -> bool:
        """Whether `root` looks like this format."""
        return her2st_layout.cohort_folder(root) is not None

    def find(self, root: Path) -> list[SectionFiles]:
        """List the sections under `root`, sorted by sample id; raises ProblemsError."""
        return her2st_layout.find_sections(root)

    def read(self, files: SectionFiles, max_image_pixels: int) -> RawSection:
        """Read and check one section; raises ProblemsError with everything wrong in it.

        The position of a spot (`xy`) is its integer array coordinates, which are spot distances. The image
        is decoded once to find damage and is not kept.
        """
        section = read_section(Findings(files), max_image_pixels)
        return dataclasses.replace(section, spot_distance_um=SPOT_DISTANCE_UM)


def read_section(findings: Findings, max_image_pixels: int, *, selected_needed: bool = True) -> RawSection:
    """Read and check the files of a section on a spatial transcriptomics array, whatever folder they are in.

    Raises ProblemsError, also with what `findings` held before. `selected_needed`: whether the spot file has
    to say which spots are selected.
    """
    files = findings.files
    counts = read_counts(findings)
    table = read_spot_file(findings, selected_needed=selected_needed)
    labels = None if files.labels is None else read_labels(findings, files.labels)
    if files.annotations:
        names = ", ".join(name for name, _ in files.annotations)
        findings.notes.append(f"labels of further annotators: {names}")
    others = {name: read_labels(findings, path, _by(name)) for name, path in files.annotations}
    size = read_image_size(findings, max_image_pixels)
    kept, pixel_xy, spot_labels = np.array([], dtype=np.int64), None, None
    annotations: dict[str, tuple[str, ...]] = {}
    if counts is not None:
        kept = _match_spots(findings, counts.spots, table)
        kept_spots = [counts.spots[i] for i in kept]
        if table is not None and size is not None:
            pixel_xy = _match_pixels(findings, kept_spots, table, size)
        if labels is not None and files.labels is not None:
            _check_known(findings, files.labels, labels, counts.spots, table)
            spot_labels = _match_labels(findings, kept_spots, labels)
        for name, path in files.annotations:
            if (found := others[name]) is not None:
                _check_known(findings, path, found, counts.spots, table, _by(name))
                _check_labelled(findings, path, found)
                annotations[name] = _match_labels(findings, kept_spots, found, _by(name))
    if findings.problems or counts is None or counts.matrix is None:
        raise ProblemsError(findings.problems, "1 section")
    spots = tuple(counts.spots[i] for i in kept)
    return RawSection(
        files=files,
        spots=spots,
        genes=counts.genes,
        counts=counts.matrix[kept],
        xy=np.array([spot.split("x") for spot in spots], dtype=np.float64),
        pixel_xy=pixel_xy,
        labels=spot_labels,
        annotations=annotations,
        notes=tuple(findings.notes),
    )


def _by(annotator: str) -> str:
    return f" (annotator {annotator})"


def _match_spots(findings: Findings, spots: tuple[str, ...], table: pd.DataFrame | None) -> np.ndarray:
    """Indices of the spots that are kept: those with counts that the spot file does not deselect."""
    files = findings.files
    if table is None or files.spots is None:
        return np.arange(len(spots))
    without_row = {spot for spot in spots if spot not in table.index}
    if files.image is None:
        findings.note(len(without_row), "spot", "not in the spot file: positions are taken from the names")
        without_row = set()
    elif 2 * len(without_row) > len(spots):
        findings.problem(
            files.spots,
            f"no row for {len(without_row)} of {quantity(len(spots), 'spot')} of the counts: "
            f"{quote_some(sorted(without_row))}; expected their pixel positions; probably the spot file of "
            "another section",
        )
    else:
        findings.note(len(without_row), "spot", "left out: not in the spot file, so without a pixel position")
    without_counts = table.index.difference(list(spots))
    findings.note(len(without_counts), "row", "of the spot file left out: no counts for the spot")
    deselected = set(spots) & set(table.index[table["selected"] == 0])
    findings.note(len(deselected), "spot", "left out: 'selected' is 0 in the spot file")
    kept = np.array([i for i, s in enumerate(spots) if s not in deselected | without_row], dtype=np.int64)
    if not len(kept):
        findings.problem(files.spots, "selected is 0 for every spot with counts; expected 1 for those to use")
    return kept


def _match_pixels(
    findings: Findings, spots: list[str], table: pd.DataFrame, size: tuple[int, int]
) -> np.ndarray | None:
    """(N, 2) pixel positions of `spots`; None when one has none."""
    listed = [spot for spot in spots if spot in table.index]
    pixel_xy = table.loc[listed, ["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64)
    outside = int((~((pixel_xy >= 0) & (pixel_xy < size)).all(axis=1)).sum())
    if outside and findings.files.spots is not None:
        low, high = pixel_xy.min(axis=0), pixel_xy.max(axis=0)
        findings.problem(
            findings.files.spots,
            f"{outside} of {quantity(len(listed), 'spot')} outside the image of {size[0]} x {size[1]} "
            f"pixels: pixel_x from {low[0]:g} to {high[0]:g}, pixel_y from {low[1]:g} to {high[1]:g}; "
            "probably the spot file is for another resolution of the image; rescale pixel_x and pixel_y or "
            "use that image",
        )
    elif findings.files.spots is not None and (wrong := frame_problem(pixel_xy, size)):
        findings.problem(findings.files.spots, wrong)
    return pixel_xy if len(listed) == len(spots) else None


def _check_known(
    findings: Findings,
    path: Path,
    labels: dict[str, str],
    spots: tuple[str, ...],
    table: pd.DataFrame | None,
    whose: str = "",
) -> None:
    """Tell labels of spots that the section does not have from those of spots without counts."""
    if findings.files.spots is not None and table is None:
        return  # The spot file has a problem of its own; what it would have listed is not known.
    with_counts = set(spots)
    absent = [spot for spot in labels if spot not in with_counts]
    unknown = absent if table is None else [spot for spot in absent if spot not in table.index]
    if unknown:
        message = (
            f"labels for {quantity(len(unknown), 'unknown spot')}: {quote_some(unknown)}; expected spots"
        )
        findings.problem(path, f"{message} of the counts or the spot file; remove or correct the rows")
    findings.note(len(absent) - len(unknown), "label row", f"left out: no counts for the spot{whose}")


def _check_labelled(findings: Findings, path: Path, labels: dict[str, str]) -> None:
    if set(labels.values()) <= {keys.UNDETERMINED}:
        findings.problem(path, "no spot has a label; expected the annotator's labels; remove the file")


def _match_labels(
    findings: Findings, spots: list[str], labels: dict[str, str], whose: str = ""
) -> tuple[str, ...]:
    """The label of each spot, keys.UNDETERMINED for one that has none."""
    without = sum(spot not in labels for spot in spots)
    findings.note(without, "spot", f"without a label: {keys.UNDETERMINED}{whose}")
    return tuple(labels.get(spot, keys.UNDETERMINED) for spot in spots)
