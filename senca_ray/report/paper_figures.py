"""`senca figures`: the figures of the paper for the sections of a study, as files for a manuscript."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.report.figure_panels import WIDTHS, Sheet, draw_sheet, page_names, save_figure
from senca_ray.report.maps import section_maps
from senca_ray.report.paper_sheets import SHEETS, Tell, cohort_sheet
from senca_ray.report.view import StudyView, load_study

FIGURE_FOLDER = "figures"
COHORT = "figure_cohort"


@dataclass(frozen=True)
class PaperFigures:
    """What was written and what was not."""

    written: tuple[Path, ...]
    left_out: tuple[Problem, ...]
    """Section ('-' for the cohort), figure and reason of what could not be made."""


def write_figures(
    study_dir: Path,
    out: Path | None = None,
    sections: Sequence[str] | None = None,
    width: str = "double",
    progress: Callable[[str], None] = lambda text: None,
) -> PaperFigures:
    """Write the figures of these sections into `out`, by default of all into STUDY/figures.

    Each is a PDF and a PNG; all of them are written or none. `width` is one of WIDTHS; the figure of the
    cohort is made where all sections are. What cannot be made is told in the result. Raises ProblemsError
    with everything that is wrong with the request or the folder (see `load_study`), or when nothing can be
    made, and SencaError when `out` cannot be written.
    """
    view, asked = _checked(study_dir, sections, width)
    folder = Path(study_dir) / FIGURE_FOLDER if out is None else Path(out)
    left_out: list[Problem] = []
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".figures-", dir=folder) as staging:
            for name, sheet in _sheets(view, asked, not sections, left_out, progress):
                for page, figure in zip(page_names(name), draw_sheet(sheet, width), strict=False):
                    made += save_figure(figure, Path(staging) / page)
            for path in made:
                path.replace(folder / path.name)
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise SencaError(
            f"{folder}: figures cannot be written ({error}); free space there or choose another --out"
        ) from None
    if not made:
        raise ProblemsError(left_out, f"{study_dir}, of which no figure can be made")
    return PaperFigures(tuple(folder / path.name for path in made), tuple(left_out))


def _checked(study_dir: Path, sections: Sequence[str] | None, width: str) -> tuple[StudyView, list[str]]:
    """The study and the sections asked for, each once; raises ProblemsError with all that is wrong."""
    problems = []
    if width not in WIDTHS:
        message = f"{width!r} found; expected one of {', '.join(WIDTHS)}"
        problems.append(Problem("-", "--width", message))
    try:
        view = load_study(study_dir)
    except ProblemsError as error:
        raise ProblemsError([*error.problems, *problems], error.scope) from None
    there = list(view.description["shards"])
    asked = list(dict.fromkeys(sections or there))
    for name in asked:
        if name not in there:
            message = f"{name!r} found; the sections of the study are {', '.join(there)}"
            problems.append(Problem("-", "--section", message))
    if problems:
        raise ProblemsError(problems, "the options")
    return view, asked


def _sheets(
    view: StudyView, asked: list[str], whole: bool, left_out: list[Problem], progress: Callable[[str], None]
) -> Iterator[tuple[str, Sheet]]:
    """Name and sheet of every figure that can be made."""
    for sample in asked:
        if sample in view.unreadable:
            left_out.append(Problem(sample, "all figures", view.unreadable[sample]))
            continue
        section = section_maps(view, sample)
        for name, make in SHEETS.items():
            progress(f"{sample}: {name}")
            sheet = make(view, sample, section, _teller(left_out, sample, name))
            if sheet is not None:
                yield f"{name}_{sample}", sheet
    if whole:
        progress(COHORT)
        sheet = cohort_sheet(view, _teller(left_out, "-", COHORT))
        if sheet is not None:
            yield COHORT, sheet


def _teller(left_out: list[Problem], sample: str, figure: str) -> Tell:
    return lambda reason: left_out.append(Problem(sample, figure, reason))
