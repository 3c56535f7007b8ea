"""10x Visium HD: the square bins of Space Ranger."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from senca_ray import keys
from senca_ray.data.readers.tenx import Kind, read_section
from senca_ray.data.readers.tenx_layout import (
    SPATIAL,
    Listing,
    image_files,
    one_matrix,
    sample_of,
    section_folders,
)
from senca_ray.data.section import RawSection, SectionFiles
from senca_ray.errors import ProblemsError, SencaError

BINNED, POSITIONS = "binned_outputs", "tissue_positions.parquet"
DEFAULT_UM = 8
"""What 10x Genomics recommends: bins of 2 micrometres count almost nothing each."""

_BIN = re.compile(r"square_([0-9]{3})um")


class VisiumHdReader:
    """Reads outs folders of Space Ranger for Visium HD: one, or SAMPLE/ or SAMPLE/outs/ of several.

    A section is read at one bin size, of those in `binned_outputs/square_XXXum`: 8 micrometres, else the next
    larger one, else the largest. A root that is itself such a folder is read at its size, and so is a section
    whose `part` names one. The files and images are those of Visium, positions as Parquet. The sample id is
    the folder's name, the patient the sample.
    """

    name = "visium_hd"
    expects = f"an outs folder of Space Ranger with {BINNED}/square_XXXum, SAMPLE/ or SAMPLE/outs/ of several"

    def recognises(self, root: Path) -> bool:
        """Whether `root` looks like this format."""
        return next(_sections(root), None) is not None

    def find(self, root: Path) -> list[SectionFiles]:
        """List the sections under `root`, sorted by sample id; raises ProblemsError."""
        listing = Listing(root)
        sections = []
        for sample, folder, bins in _sections(root):
            if listing.named_well(sample, folder):
                files = _files(listing, sample, folder, bins)
                sections += [files] if files is not None else []
        if not sections and not listing.problems:
            listing.problem("-", root, f"no sections found; expected {self.expects}; name that folder")
        return listing.done(sections)

    def read(self, files: SectionFiles, max_image_pixels: int) -> RawSection:
        """Read and check one section; raises ProblemsError with everything wrong in it.

        `xy` is array column and row: spot distances are the bin's side.
        """
        files = at_part(files)
        side = _side(files.part or "")
        also = sorted(b.name for b in _bins(files.counts.parent.parent) if b.name != files.part)
        notes = [f"bins of {side} micrometres" + (f"; also there: {', '.join(also)}" if also else "")]
        # CytAssist's images are mirrored and turned as the slide lay: both ways round are right.
        kind = Kind(float(side), hexagonal=False, diameters=(0.5, 2.0), one_handed=False)
        return read_section(files, max_image_pixels, kind, notes)


def at_part(files: SectionFiles) -> SectionFiles:
    """The files of the bin size that `files.part` names; raises ProblemsError when it is not there."""
    bins = files.counts.parent
    if files.part is None or files.part == bins.name:
        return dataclasses.replace(files, part=bins.name)
    listing = Listing(files.root)
    chosen = bins.parent / files.part
    found = None
    if _BIN.fullmatch(files.part) and chosen.is_dir():
        found = _files(listing, files.sample, bins.parent.parent, chosen)
    else:
        names = ", ".join(b.name for b in _bins(bins.parent))
        message = f"no bins {files.part!r:.40}; found {names}; expected one of these; name it as the part"
        listing.problem(files.sample, bins.parent, message)
    if found is None:
        raise ProblemsError(listing.problems, "1 section")
    # The image may be one that a cohort file names, or none; only Space Ranger's own go with the bins.
    image = found.image if files.image is not None and files.image.parent == bins / SPATIAL else files.image
    return dataclasses.replace(
        files, counts=found.counts, spots=found.spots, others=found.others, image=image
    )


def _sections(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """Sample id, outs folder and bins of every section."""
    if _BIN.fullmatch(root.absolute().name) and (root / SPATIAL).is_dir():
        outs = root.absolute().parent.parent
        yield sample_of(outs), outs, root
        return
    if root.absolute().name == BINNED and _bins(root):
        outs = root.absolute().parent
        yield sample_of(outs), outs, _default(_bins(root))
        return
    for sample, folder in section_folders(root, lambda f: bool(_bins(f / BINNED))):
        yield sample, folder, _default(_bins(folder / BINNED))


def _bins(folder: Path) -> list[Path]:
    """The folders square_XXXum, smallest first."""
    return sorted(p for p in folder.glob("square_*um") if _BIN.fullmatch(p.name) and p.is_dir())


def _default(bins: list[Path]) -> Path:
    return next((b for b in bins if _side(b.name) >= DEFAULT_UM), bins[-1])


def _side(name: str) -> int:
    """Micrometres of a bin's side by its folder's name."""
    match = _BIN.fullmatch(name)
    if match is None or int(match[1]) == 0:
        raise SencaError(f"{name!r:.40} is no folder of bins; expected a name such as square_008um")
    return int(match[1])


def _files(listing: Listing, sample: str, outs: Path, bins: Path) -> SectionFiles | None:
    counts, positions = one_matrix(listing, sample, bins), bins / SPATIAL / POSITIONS
    image, others = image_files(listing, sample, outs, bins / SPATIAL)
    if not positions.is_file():
        message = f"no {SPATIAL}/{POSITIONS}; expected the bins' positions; copy the folder spatial"
        listing.problem(sample, bins, message)
    if counts is None or not positions.is_file():
        return None
    return SectionFiles(
        sample=sample,
        patient=sample,
        label_source=keys.UNLABELLED,
        root=listing.root,
        format=VisiumHdReader.name,
        counts=counts,
        spots=positions,
        image=image,
        others=others,
        part=bins.name,
    )
