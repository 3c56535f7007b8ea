"""What the readers of 10x sections share: joining counts, positions, labels and image by barcode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from senca_ray import keys
from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.tables import MISSING, quantity, quote, quote_some
from senca_ray.data.readers.tenx_hdf5 import read_hdf5
from senca_ray.data.readers.tenx_image import match_pixels, read_frame
from senca_ray.data.readers.tenx_matrix import Matrix, pick, repeated_strings
from senca_ray.data.readers.tenx_mex import read_folder
from senca_ray.data.readers.tenx_positions import Positions, read_positions
from senca_ray.data.readers.tenx_text import column_index, read_csv
from senca_ray.data.section import RawSection, SectionFiles
from senca_ray.errors import SencaError

_OFF_TISSUE = 0.2
"""A filtered matrix with a larger share of spots off tissue is another section's, or is not filtered."""


@dataclass(frozen=True)
class Kind:
    """What differs between the formats."""

    spot_distance_um: float
    hexagonal: bool
    """Odd columns lie between even ones and rows are half the square root of three apart."""
    diameters: tuple[float, float]
    """Least and largest distance of adjacent spots in spot diameters."""
    one_handed: bool
    """The image is not mirrored against the array; CytAssist's is."""
    tissue_only: bool = True
    """Spots that are not on tissue are left out."""
    label_column: str = "label"
    """Unless the cohort file names one."""
    unsure: frozenset[str] = frozenset()
    """Labels (in lower case) by which the pathologist says that a spot cannot be told."""


@dataclass(frozen=True)
class _Labels:
    barcodes: pa.Array
    labels: list[str]


def read_section(
    files: SectionFiles, max_image_pixels: int, kind: Kind, notes: Sequence[str] = ()
) -> RawSection:
    """Read and check one section; raises ProblemsError with everything wrong in it.

    Spots are in the order of the matrix; `notes` come first.
    """
    findings = Findings(files, notes=list(notes))
    read = read_folder if files.counts.is_dir() else read_hdf5
    matrix, positions = read(findings, files.counts), read_positions(findings)
    labels = _read_labels(findings, kind)
    frame = read_frame(findings, max_image_pixels)
    pixel, spot_labels, xy = None, None, np.empty((0, 2))
    kept = np.array([], dtype=np.int64)
    if matrix is not None and positions is not None:
        kept, rows = _match_spots(findings, matrix, positions, kind)
        xy = positions.array[rows] * ([0.5, np.sqrt(3) / 2] if kind.hexagonal else [1.0, 1.0])
        _check_places(findings, positions.array[np.unique(rows)])
        if frame is not None and len(rows):
            pixel = match_pixels(
                findings,
                positions,
                rows,
                xy,
                frame,
                diameters=kind.diameters,
                one_handed=kind.one_handed,
            )
        if labels is not None and files.labels is not None:
            spots = matrix.barcodes.take(pa.array(kept))
            spot_labels = _match_labels(findings, files.labels, labels, spots, positions)
    findings.raise_problems()
    assert matrix is not None and matrix.counts is not None  # otherwise there was a problem
    return RawSection(
        files=files,
        spots=tuple(matrix.barcodes.take(pa.array(kept)).to_pylist()),
        genes=matrix.genes,
        counts=pick(matrix.counts, kept, axis=0),
        xy=xy,
        pixel_xy=pixel,
        labels=spot_labels,
        spot_distance_um=kind.spot_distance_um,
        notes=tuple(findings.notes),
    )


def barcode_rows(barcodes: pa.Array, among: pa.Array) -> np.ndarray:
    """Index of each barcode in `among`, -1 where it is not there. Shapes: (N,), (P,) -> (N,) int64."""
    return pc.fill_null(pc.index_in(barcodes, value_set=among), -1).to_numpy(zero_copy_only=False)


def _match_spots(
    findings: Findings, matrix: Matrix, positions: Positions, kind: Kind
) -> tuple[np.ndarray, np.ndarray]:
    """Spots of the matrix that are kept, and their rows in the positions."""
    files, count = findings.files, len(matrix.barcodes)
    place = files.spots or files.counts
    rows = barcode_rows(matrix.barcodes, positions.barcodes)
    if (missing := np.flatnonzero(rows < 0)).size:
        names = matrix.barcodes.take(pa.array(missing)).to_pylist()
        findings.problem(
            place,
            f"no row for {missing.size:,} of {quantity(count, 'barcode')} of the matrix: "
            f"{quote_some(names)}; expected a position for each; the matrix or the positions are of another "
            "section, or several sections are mixed: copy both from one",
        )
    kept = np.flatnonzero(rows >= 0)
    off = int((~positions.in_tissue[rows[kept]]).sum())
    if not kind.tissue_only:
        findings.note(off, "spot", "kept: in_tissue is 0, but the matrix and its metadata hold it")
    elif off > _OFF_TISSUE * count:
        findings.problem(
            place,
            f"in_tissue is 0 for {off:,} of {quantity(count, 'barcode')} of the matrix; expected a filtered "
            "matrix, of spots on tissue; it is unfiltered, or the positions are of another section: copy "
            "both from one",
        )
    else:
        findings.note(off, "spot", "left out: in_tissue is 0")
        kept = kept[positions.in_tissue[rows[kept]]]
    without = int(positions.in_tissue.sum()) - int(positions.in_tissue[rows[rows >= 0]].sum())
    findings.note(without, "spot", "on tissue left out: no counts")
    return kept, rows[kept]


def _check_places(findings: Findings, array: np.ndarray) -> None:
    """Two spots at one place of the array: the positions are of several sections, or damaged."""
    shared = len(array) - len(np.unique(array[:, 0] * 1e8 + array[:, 1]))
    if shared and findings.files.spots is not None:
        findings.problem(
            findings.files.spots,
            f"{quantity(shared, 'spot')} at the array coordinates of another one; expected one spot a place; "
            "the rows of several sections may be mixed: copy the file again",
        )


def _read_labels(findings: Findings, kind: Kind) -> _Labels | None:
    """Read the label file, keyed by barcode; None without one or with problems."""
    path, column = findings.files.labels, findings.files.label_column
    if path is None:
        if column is not None:
            findings.problem(
                findings.files.counts,
                f"label column {quote(column)} is named, but no file with labels; expected a CSV of barcode "
                "and label; name it as 'labels' in the cohort file",
            )
        return None
    with findings.collecting(path):
        header, *rows = read_csv(path)
        place = column_index(header, column or kind.label_column)
        # R and pandas leave the name of the row names empty; Loupe calls them Barcode.
        named = [i for i, name in enumerate(header) if name.strip().lower() == "barcode"]
        barcode = named[0] if named else 0
        barcodes = pa.array([row[barcode] for row in rows], type=pa.string())
        if twice := repeated_strings(barcodes):
            raise SencaError(f"two labels for {quote_some(twice)}; expected one row a spot; remove one")
        marks = [row[place].strip() for row in rows]
        findings.note(
            sum(mark in MISSING for mark in marks), "label row", f"with an empty label: {keys.UNDETERMINED}"
        )
        for unsure in sorted({mark for mark in marks if mark.lower() in kind.unsure}):
            count = marks.count(unsure)
            findings.note(count, "label row", f"with the label {quote(unsure)}: {keys.UNDETERMINED}")
        cannot = {mark for mark in set(marks) if mark in MISSING or mark.lower() in kind.unsure}
        found = [keys.UNDETERMINED if mark in cannot else mark for mark in marks]
        if set(found) <= {keys.UNDETERMINED}:
            raise SencaError(
                f"no spot has a label in column {quote(header[place])}; expected labels; name another column"
            )
        return _Labels(barcodes, found)
    return None


def _match_labels(
    findings: Findings, path: Path, given: _Labels, spots: pa.Array, positions: Positions
) -> tuple[str, ...]:
    """The label of each spot, keys.UNDETERMINED for one that has none."""
    unknown = np.flatnonzero(barcode_rows(given.barcodes, positions.barcodes) < 0)
    if unknown.size:
        names = given.barcodes.take(pa.array(unknown)).to_pylist()
        findings.problem(
            path,
            f"labels for {quantity(unknown.size, 'unknown spot')}: {quote_some(names)}; expected barcodes of "
            "the section; the file is another section's, or its rows are to be corrected",
        )
    rows = barcode_rows(spots, given.barcodes)
    found = int((rows >= 0).sum())
    findings.note(
        len(given.labels) - unknown.size - found, "label row", "left out: no counts for the spot on tissue"
    )
    findings.note(len(rows) - found, "spot", f"without a label: {keys.UNDETERMINED}")
    labels = [*given.labels, keys.UNDETERMINED]  # at -1
    return tuple(labels[row] for row in rows.tolist())
