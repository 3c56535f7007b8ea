"""Legacy spatial transcriptomics in one flat folder, as GEO ships GSE144240 (Ji et al., Cell 2020)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from senca_ray import keys
from senca_ray.data.readers import embedded, positions
from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.her2st import read_section
from senca_ray.data.section import SAMPLE_ID, RawSection, SectionFiles
from senca_ray.errors import Problem, ProblemsError

_GEO = r"(?:GSM[0-9]+_)?"
_COUNTS, _SPOTS, _LABELS, _IMAGE = "counts", "spot file", "label file", "image"
_KINDS = {
    _COUNTS: re.compile(rf"{_GEO}(?P<sample>.+)_stdata\.tsv(?:\.gz)?", re.DOTALL),
    _SPOTS: re.compile(rf"{_GEO}spot_data-selection-(?P<sample>.+?)\.tsv(?:\.gz)?", re.DOTALL),
    _LABELS: re.compile(rf"{_GEO}(?P<sample>.+)_labeled_coordinates\.tsv(?:\.gz)?", re.DOTALL),
    _IMAGE: re.compile(
        rf"{_GEO}(?P<sample>.+?)\.(?:jpe?g|png|tiff?)(?P<zipped>\.gz)?", re.DOTALL | re.IGNORECASE
    ),
}
"""What the name of a file says it is, and of which section."""
ZIPPED_IMAGE = "gzipped image"


class LegacyStReader:
    """Reads flat folders of sections on the first spatial transcriptomics arrays, gzipped or not.

    `SAMPLE_stdata.tsv.gz` (spots by genes, spots named by array coordinates as in 10x13),
    `spot_data-selection-SAMPLE.tsv.gz` (x, y, pixel_x, pixel_y and perhaps selected), `SAMPLE.jpg` or
    `SAMPLE.jpg.gz`, and, for labels of your own, `SAMPLE_labeled_coordinates.tsv` (x, y, label). All may
    begin with a GEO accession (GSM4284316_). All but the counts are optional; an image needs the spot file.
    The patient is what precedes the first '_' of the sample id (P2_ST_rep1: P2). Other files are let be:
    the public set's archive holds Visium and single-cell files too.
    """

    name = "legacy_st"
    expects = "a folder with SAMPLE_stdata.tsv.gz files, here or in data/"

    def recognises(self, root: Path) -> bool:
        """Whether `root` looks like this format."""
        return _folder(root) is not None

    def find(self, root: Path) -> list[SectionFiles]:
        """List the sections under `root`, sorted by sample id; raises ProblemsError."""
        base = _folder(root)
        if base is None:
            message = f"no sections found; expected {self.expects}; name the folder that holds the files"
            raise ProblemsError([Problem("-", str(root), message)], "1 folder")
        problems: list[Problem] = []
        found: dict[str, dict[str, Path]] = {kind: {} for kind in _KINDS}
        for path, kind, sample in _named(base):
            if kind != _COUNTS and sample not in found[_COUNTS]:
                if kind in (_SPOTS, _LABELS):
                    message = (
                        f"{kind} without counts; expected {sample}_stdata.tsv.gz; add it or remove this file"
                    )
                    problems.append(Problem(sample, path.name, message))
            elif not SAMPLE_ID.fullmatch(sample):
                message = (
                    f"sample id {sample!r:.80}; expected letters, digits, '-', '_', '.'; rename the file"
                )
                problems.append(Problem("-", path.name, message))
            elif not path.is_file():
                message = "not a file; expected a file; remove it, or repair the link"
                problems.append(Problem(sample, path.name, message))
            elif sample in found[kind]:
                message = f"{found[kind][sample].name} is there too; expected one {kind}; remove one"
                problems.append(Problem(sample, path.name, message))
            else:
                found[kind][sample] = path
        for sample in sorted(found[_IMAGE].keys() - found[_SPOTS].keys()):
            message = f"the section's image needs spot_data-selection-{sample}.tsv, which is missing; add it"
            problems.append(Problem(sample, found[_IMAGE][sample].name, f"{message} or remove the image"))
        if problems:
            raise ProblemsError(
                sorted(problems, key=lambda p: (p.sample, p.place)), f"{len(found[_COUNTS])} sections"
            )
        return [_section(base, sample, found) for sample in sorted(found[_COUNTS])]

    def read(self, files: SectionFiles, max_image_pixels: int) -> RawSection:
        """Read and check one section; raises ProblemsError with everything wrong in it.

        The position of a spot is its integer array coordinates. A gzipped image is unpacked into the cache.
        """
        findings = Findings(files)
        zipped = files.others.get(ZIPPED_IMAGE)
        if files.image is None and zipped is not None:
            with findings.collecting(zipped):
                image = embedded.keep_unzipped(zipped, max_image_pixels)
                findings.files = dataclasses.replace(files, image=image)
        section = read_section(findings, max_image_pixels, selected_needed=False)
        if section.pixel_xy is not None and files.spots is not None:
            if positions.swapped(section.xy, section.pixel_xy):
                findings.problem(
                    files.spots,
                    "pixel_x goes with y and pixel_y with x; expected pixel_x to the right and pixel_y down, "
                    "as x and y; swap the two columns, or x and y",
                )
            findings.raise_problems()
        return section


def _folder(root: Path) -> Path | None:
    for folder in (root, root / "data"):
        if folder.is_dir() and any(kind == _COUNTS for _, kind, _ in _named(folder)):
            return folder
    return None


def _named(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """File, kind and sample id of everything whose name says one, kind by kind."""
    paths = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    for kind, pattern in _KINDS.items():
        for path in paths:
            if match := pattern.fullmatch(path.name):
                yield path, kind, match["sample"]


def _section(base: Path, sample: str, found: dict[str, dict[str, Path]]) -> SectionFiles:
    image = found[_IMAGE].get(sample)
    zipped = image is not None and image.suffix.lower() == ".gz"
    return SectionFiles(
        sample=sample,
        patient=sample.split("_", 1)[0] or sample,
        label_source=keys.ANNOTATED if sample in found[_LABELS] else keys.UNLABELLED,
        root=base,
        format=LegacyStReader.name,
        counts=found[_COUNTS][sample],
        spots=found[_SPOTS].get(sample),
        labels=found[_LABELS].get(sample),
        image=None if zipped else image,
        others={ZIPPED_IMAGE: image} if zipped and image is not None else {},
    )
