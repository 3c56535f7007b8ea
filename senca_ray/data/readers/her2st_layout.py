"""Where the files of a HER2ST cohort are: listing and matching them, before any of them is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from senca_ray import keys
from senca_ray.config import read_yaml
from senca_ray.data.section import MAIN_ANNOTATOR, SAMPLE_ID, SectionFiles
from senca_ray.errors import Problem, ProblemsError, SencaError

COUNTS, SPOTS, LABELS, IMAGES = "ST-cnts", "ST-spotfiles", "ST-pat/lbl", "ST-imgs"
COUNTS_SUFFIXES = (".tsv.gz", ".tsv")
SPOTS_SUFFIX, LABELS_SUFFIX = "_selection.tsv", "_labeled_coordinates.tsv"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
COHORT_FILE = "cohort.yaml"

ANNOTATED_IN_PUBLIC_SET = frozenset({"A1", "B1", "C1", "D1", "E1", "F1", "G2", "H1"})
"""The sections that a pathologist annotated; labels of any other section were carried over."""

_ANNOTATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,29}")
_ANNOTATION = re.compile(r"(.*)_labeled_coordinates\.(.*)\.tsv", re.DOTALL)
"""Sample and annotator of a label file beside the section's own."""

_Report = Callable[[str, Path, str], None]
"""Takes sample, file and message of a problem."""


def cohort_folder(root: Path) -> Path | None:
    """The folder that holds ST-cnts: `root` or `root/data`; None when neither does."""
    return next((folder for folder in (root, root / "data") if (folder / COUNTS).is_dir()), None)


def patient_of(sample: str) -> str:
    """The leading letters of a sample id (A1: A), the whole id where it has none."""
    letters = re.match(r"[A-Za-z]+", sample)
    return letters.group() if letters else sample


def find_sections(root: Path) -> list[SectionFiles]:
    """List the sections under `root`, sorted by sample id.

    Raises ProblemsError with everything that does not fit the layout. Files are listed, not read.
    """
    base = cohort_folder(root)
    if base is None:
        state = "neither here nor in data/" if root.is_dir() else "this folder does not exist"
        message = (
            f"no folder {COUNTS} found, {state}; expected {COUNTS}/SAMPLE.tsv.gz; name the cohort's folder"
        )
        raise ProblemsError([Problem("-", str(root), message)], "1 folder")
    problems: list[Problem] = []
    report = partial(_add, problems, base)
    counts = _list_files(base, COUNTS, COUNTS_SUFFIXES, report)
    spots = _list_files(base, SPOTS, (SPOTS_SUFFIX,), report)
    labels = _list_files(base, LABELS, (LABELS_SUFFIX,), report)
    annotations = _list_annotations(base, report)
    images = _list_images(base, report)
    label_source = _cohort_label_source(base, report)
    if not counts and not problems:
        found = f"no sections found; expected {COUNTS}/SAMPLE.tsv.gz or .tsv; add the counts"
        report("-", base / COUNTS, found)
    for sample in annotations.keys() - labels.keys():
        message = f"no {sample}{LABELS_SUFFIX} beside it; expected there the labels that scores use"
        report(sample, annotations[sample][0][1], f"{message}; rename one annotator's file to that")
    for kind in (spots, labels, images):
        for sample in kind.keys() - counts.keys():
            message = f"section without counts; expected {COUNTS}/{sample}.tsv.gz; add it or remove this file"
            report(sample, kind[sample], message)
    for sample in images.keys() & counts.keys() - spots.keys():
        message = f"the section's image needs {SPOTS}/{sample}{SPOTS_SUFFIX}, which is missing; add it"
        report(sample, images[sample], f"{message} or remove the image")
    if problems:
        sections = f"{len(counts)} section{'' if len(counts) == 1 else 's'}"
        raise ProblemsError(sorted(problems, key=lambda p: (p.sample, p.place)), sections)
    return [
        SectionFiles(
            sample=sample,
            patient=patient_of(sample),
            label_source=_label_source(sample, label_source) if sample in labels else keys.UNLABELLED,
            root=base,
            format="her2st",
            counts=counts[sample],
            spots=spots.get(sample),
            labels=labels.get(sample),
            image=images.get(sample),
            annotations=tuple(annotations.get(sample, ())),
            simulated=label_source == keys.SIMULATED,
        )
        for sample in sorted(counts)
    ]


def _add(problems: list[Problem], base: Path, sample: str, path: Path, message: str) -> None:
    problems.append(Problem(sample, path.relative_to(base).as_posix(), message))


def _label_source(sample: str, of_cohort: str | None) -> str:
    if of_cohort is not None:
        return of_cohort
    return keys.ANNOTATED if sample in ANNOTATED_IN_PUBLIC_SET else keys.TRANSFERRED


def _cohort_label_source(base: Path, report: _Report) -> str | None:
    """What cohort.yaml says of all labels; None without that file."""
    path = base / COHORT_FILE
    allowed = (keys.ANNOTATED, keys.TRANSFERRED, keys.SIMULATED)
    if not (path.exists() or path.is_symlink()) or not _usable("-", path, report):
        return None
    try:
        content = read_yaml(path)
    except SencaError as error:
        finding = " ".join(str(error).removeprefix(f"{path}: ").split())
        report(
            "-", path, f"{finding}; expected the one entry 'labels: ' with {', '.join(allowed)}; correct it"
        )
        return None
    if list(content) != ["labels"] or content["labels"] not in allowed:
        message = (
            f"{content!r:.80} found; expected the one entry 'labels: ' with {', '.join(allowed)}; correct it"
        )
        report("-", path, message)
        return None
    return str(content["labels"])


def _named_well(sample: str, path: Path, report: _Report) -> bool:
    """Whether the sample id is one; reports it when not."""
    if SAMPLE_ID.fullmatch(sample):
        return True
    message = f"sample id {sample!r:.80}; expected letters, digits, '-', '_', '.', not starting with a dot"
    report("-", path, f"{message}; rename or remove the file")
    return False


def _usable(sample: str, path: Path, report: _Report) -> bool:
    """Whether `path` is a file, or a link to one; reports it when not."""
    if path.is_file():
        return True
    report(sample, path, "not a file; expected a file; remove it, or repair the link")
    return False


def _list_files(base: Path, folder: str, suffixes: tuple[str, ...], report: _Report) -> dict[str, Path]:
    """The files of one kind by sample id."""
    files: dict[str, Path] = {}
    for path in sorted((base / folder).glob("*")):
        suffix = next((s for s in suffixes if path.name.endswith(s)), None)
        if suffix is None or path.name.startswith("."):
            continue  # Other files, and the hidden ones that file managers leave.
        sample = path.name.removesuffix(suffix)
        if _named_well(sample, path, report) and _usable(sample, path, report):
            if sample in files:
                report(sample, path, f"{files[sample].name} is there too; expected one file; remove one")
            files.setdefault(sample, path)
    return files


def _list_annotations(base: Path, report: _Report) -> dict[str, list[tuple[str, Path]]]:
    """Name and file of the further annotators of each section, by name."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for path in sorted((base / LABELS).glob("*")):
        parts = _ANNOTATION.fullmatch(path.name)
        if parts is None or path.name.startswith(".") or path.name.endswith(LABELS_SUFFIX):
            continue
        sample, annotator = parts.groups()
        if not _named_well(sample, path, report):
            continue
        others = {name.casefold(): name for name, _ in found.get(sample, [])}
        if not _ANNOTATOR.fullmatch(annotator) or annotator.casefold() == MAIN_ANNOTATOR:
            message = (
                f"annotator {annotator!r:.80}; expected 1 to 30 letters, digits, '-', '_', and another name "
                f"than {MAIN_ANNOTATOR!r}; rename or remove the file"
            )
            report(sample, path, message)
        elif annotator.casefold() in others:
            message = f"annotator {annotator!r} beside {others[annotator.casefold()]!r}"
            report(sample, path, f"{message}; expected names that differ in more than case; rename one")
        elif _usable(sample, path, report):
            found.setdefault(sample, []).append((annotator, path))
    return found


def _list_images(base: Path, report: _Report) -> dict[str, Path]:
    """The image of each section, from ST-imgs/PATIENT/SECTION/."""
    folder = base / IMAGES
    images: dict[str, list[Path]] = {}
    for path in sorted(p for level in ("*", "*/*", "*/*/*") for p in folder.glob(level)):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        parts = path.relative_to(folder).parts
        sample = parts[1] if len(parts) == 3 else "-"
        if len(parts) != 3 or parts[0] != patient_of(sample):
            expected = f"{IMAGES}/{patient_of(sample) if len(parts) == 3 else 'PATIENT'}"
            expected += f"/{sample if len(parts) == 3 else 'SECTION'}"
            report(
                sample, path, f"image in an unexpected folder; expected it in {expected}; move or remove it"
            )
        elif _usable(sample, path, report):
            images.setdefault(sample, []).append(path)
    for section in sorted(folder.glob("*/*")):
        if section.name not in images and section.is_dir():
            others = sorted(p.name for p in section.glob("*") if not p.name.startswith("."))
            unknown = [name for name in others if Path(name).suffix.lower() not in IMAGE_SUFFIXES]
            if unknown:
                message = f"no image, but {', '.join(unknown[:3])}; expected {', '.join(IMAGE_SUFFIXES)}"
                report(section.name, section, f"{message}; convert the image or remove the folder")
    for sample, paths in images.items():
        if len(paths) > 1:
            names = ", ".join(p.name for p in paths)
            report(sample, paths[0].parent, f"{len(paths)} images: {names}; expected one; remove the others")
    return {sample: paths[0] for sample, paths in images.items()}
