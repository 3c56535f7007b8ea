"""Where the files of 10x sections are: listing them, before any of them is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from senca_ray.data.readers.tenx_image import (
    HIRES,
    SCALE_FACTORS,
    SCALE_FILE,
    full_images,
    hires_image,
    reduced_image,
)
from senca_ray.data.section import SAMPLE_ID, SectionFiles
from senca_ray.errors import Problem, ProblemsError

OUTS, SPATIAL = "outs", "spatial"
MATRIX = "filtered_feature_bc_matrix"
POSITIONS = ("tissue_positions.csv", "tissue_positions_list.csv")


class Listing:
    """Problems found while the sections under a root are listed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[Problem] = []

    def problem(self, sample: str, path: Path, message: str) -> None:
        """Collect a problem of the file or folder `path`."""
        inside = path != self.root and path.is_relative_to(self.root)
        place = path.relative_to(self.root).as_posix() if inside else path.name or str(path)
        self.problems.append(Problem(sample, place, message))

    def named_well(self, sample: str, path: Path) -> bool:
        """Whether the sample id is one; collects a problem when not."""
        if SAMPLE_ID.fullmatch(sample):
            return True
        message = (
            f"sample id {sample!r:.80}; expected letters, digits, '-', '_', '.', not starting with a dot"
        )
        self.problem("-", path, f"{message}; rename the folder")
        return False

    def done(self, sections: list[SectionFiles]) -> list[SectionFiles]:
        """The sections by sample id; raises ProblemsError with everything collected."""
        if self.problems:
            count = len({p.sample for p in self.problems} | {s.sample for s in sections})
            problems = sorted(self.problems, key=lambda p: (p.sample, p.place))
            raise ProblemsError(problems, f"{count} section{'' if count == 1 else 's'}")
        return sorted(sections, key=lambda s: s.sample)


def section_folders(root: Path, holds: Callable[[Path], bool]) -> Iterator[tuple[str, Path]]:
    """Sample id and folder of every section: `root` or its outs, else SAMPLE or SAMPLE/outs in it."""
    for own in (root, root / OUTS):
        if holds(own):
            yield sample_of(own), own
            return
    children = sorted(root.glob("*")) if root.is_dir() else []
    for child in children:
        if not child.name.startswith("."):
            folder = next((f for f in (child, child / OUTS) if holds(f)), None)
            if folder is not None:
                yield sample_of(folder), folder


def sample_of(folder: Path) -> str:
    """The sample id of a section's folder: its name, of outs its parent's."""
    folder = folder.absolute()
    return folder.parent.name if folder.name == OUTS else folder.name


def first_file(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of `names` in a folder that is there, packed (.gz) or not."""
    paths = (folder / name for given in names for name in (given, f"{given}.gz"))
    return next((path for path in paths if path.is_file()), None)


def matrix_of(folder: Path) -> list[Path]:
    """The filtered matrices in a folder: HDF5 files (PREFIX_ allowed), else the Matrix Market folder."""
    files = [p for p in sorted(folder.glob(f"*{MATRIX}.h5")) if p.is_file() and not p.name.startswith(".")]
    return files or [p for p in (folder / MATRIX,) if p.is_dir()]


def one_matrix(listing: Listing, sample: str, folder: Path) -> Path | None:
    """The section's matrix; collects a problem when there is none or more than one."""
    found = matrix_of(folder)
    if not found:
        message = f"no {MATRIX}.h5 and no folder {MATRIX}; expected the filtered counts"
        listing.problem(sample, folder, f"{message}; copy them from Space Ranger's outs")
    elif len(found) > 1:
        names = ", ".join(p.name for p in found[:3])
        listing.problem(sample, folder, f"{len(found)} matrices: {names}; expected one; remove the others")
    return found[0] if len(found) == 1 else None


def image_files(
    listing: Listing, sample: str, folder: Path, spatial: Path
) -> tuple[Path | None, dict[str, Path]]:
    """The section's image (full resolution, else hires, else lowres) and what its positions need.

    An image of full resolution lies in the section's folder, beside its outs, or, named after the sample,
    beside the sample's folder within the root.
    """
    home = folder.parent if folder.name == OUTS else folder
    found = full_images(dict.fromkeys((folder, home)), sample)
    if home != listing.root and home.is_relative_to(listing.root):
        own = (sample.lower(), f"{sample.lower()}_")
        beside = full_images([home.parent], sample)
        found += [p for p in beside if p.name.lower().startswith((f"{own[0]}.", own[1]))]
    if len(found) > 1:
        names = ", ".join(p.name for p in found[:3])
        message = (
            f"{len(found)} images of full resolution: {names}; expected one; remove or rename the others"
        )
        listing.problem(sample, found[0], message)
    others = {SCALE_FACTORS: first_file(spatial, (SCALE_FILE,)), HIRES: hires_image(spatial)}
    image = found[0] if found else reduced_image(spatial)
    return image, {what: path for what, path in others.items() if path is not None}
