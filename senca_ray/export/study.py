"""`senca export`: the files of every section of a study, and one table of the cohort's regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from senca_ray import keys
from senca_ray.analysis.benchmark import main_rows
from senca_ray.analysis.description import SIMULATED, read_description
from senca_ray.analysis.markers import COLUMNS_EXPLAINED, DOUBLE_DIPPING
from senca_ray.analysis.portrait import Portrait, read_portrait
from senca_ray.analysis.results import read_fits
from senca_ray.data.section import SAMPLE_ID
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.export import spatial_data
from senca_ray.export.anndata_file import write_anndata
from senca_ray.export.geojson import geojson_name, section_outlines, write_geojson
from senca_ray.export.section import ExportedSection, read_section, shown_row
from senca_ray.export.tables import cohort_regions, spot_regions, write_csv
from senca_ray.files import write_text

FOLDER, COHORT_FILE, README_FILE = "export", "cohort_regions.csv", "README.txt"


@dataclass(frozen=True)
class Exported:
    """What was written, and what was not."""

    folder: Path
    files: dict[str, tuple[str, ...]]
    """Names of the files in the folder of each section."""
    left_out: tuple[Problem, ...]
    simulated: bool


def export_study(
    study: Path,
    out: Path | None = None,
    sections: Sequence[str] | None = None,
    with_spatialdata: bool = False,
    told: Callable[[str], None] = lambda words: None,
) -> Exported:
    """Write the files of a study's sections (all of them unless named) to `out`, by default STUDY/export.

    The table of the cohort is of all sections, whichever are exported. A section that cannot be exported is
    left out with the reason. Raises ProblemsError naming every option that is wrong, before anything is
    written, or every reason where no section is left; SencaError where the study or the disk says no.
    """
    description = read_description(study)
    folder = Path(study) / FOLDER if out is None else out
    wanted = list(dict.fromkeys(sections or description["shards"]))
    problems = _wrong_options(description, folder, wanted, with_spatialdata)
    if problems:
        raise ProblemsError(problems, "the options")
    rows = _rows(study, description)
    portraits, left_out = _portraits(study, description, rows)
    left_out = [problem for problem in left_out if problem.sample in wanted]
    files: dict[str, tuple[str, ...]] = {}
    for sample in wanted:
        if sample not in portraits:
            continue
        told(sample)
        portrait = portraits[sample]
        try:
            shard = description["shards"][sample]
            section = read_section(study, shard, portrait, _variant(rows, portrait), description)
        except SencaError as error:
            left_out.append(Problem(sample, "section", str(error)))
            continue
        files[sample] = _write(section, folder / sample, with_spatialdata, left_out)
    if not files:
        raise ProblemsError(left_out, f"{len(wanted)} sections: none could be exported")
    patients = rows.groupby(keys.SAMPLE)[keys.PATIENT].first().to_dict()
    write_csv(cohort_regions(portraits, patients), folder / COHORT_FILE)
    simulated = bool(description["simulated"])
    write_text(folder / README_FILE, _readme(description))
    return Exported(folder, files, tuple(left_out), simulated)


def _wrong_options(
    description: dict[str, Any], folder: Path, wanted: Sequence[str], with_spatialdata: bool
) -> list[Problem]:
    known = ", ".join(description["shards"])
    problems = [
        Problem(sample, "--section", f"no such section; expected one of {known}")
        for sample in wanted
        if sample not in description["shards"]
    ]
    if with_spatialdata and spatial_data.missing():
        problems.append(Problem("-", "--spatialdata", spatial_data.missing()))
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    if not existing.is_dir():
        problems.append(Problem("-", "--out", f"{existing} is a file; expected a folder; choose another"))
    return problems


def _rows(study: Path, description: dict[str, Any]) -> pd.DataFrame:
    """The rows that did not fail under the study's own protocol, each with its regions."""
    rows = main_rows(read_fits(study), description)
    return rows[rows[keys.STATUS] == keys.OK].dropna(subset=keys.REGIONS)


def _variant(rows: pd.DataFrame, portrait: Portrait) -> pd.DataFrame:
    """The rows of a portrait's method and setting on its section."""
    same = (rows[keys.METHOD] == portrait.method) & (rows[keys.SETTING] == portrait.setting)
    return rows[same & (rows[keys.SAMPLE] == portrait.sample)]


def _portraits(
    study: Path, description: dict[str, Any], rows: pd.DataFrame
) -> tuple[dict[str, Portrait], list[Problem]]:
    """The portraits that show regions of the study's results, and why others cannot be had."""
    found, left_out = {}, []
    for sample in description["shards"]:
        try:
            if not SAMPLE_ID.fullmatch(sample):  # study.json may have been edited
                raise SencaError(
                    "not a sample id; expected letters, digits, '-', '_', '.', not starting with a dot"
                )
            portrait = read_portrait(study, sample)
            if portrait is None:
                raise SencaError(f"{_why_none(rows, sample)}; `senca report {study}` makes portraits")
            shown_row(portrait, _variant(rows, portrait))
            found[sample] = portrait
        except SencaError as error:
            left_out.append(Problem(sample, "portrait", str(error)))
    return found, left_out


def _why_none(rows: pd.DataFrame, sample: str) -> str:
    if sample not in set(rows[keys.SAMPLE]):
        return "no regions: every fit failed, or none has ended"
    return "no portrait of it in the study"


def _write(
    section: ExportedSection, folder: Path, with_spatialdata: bool, left_out: list[Problem]
) -> tuple[str, ...]:
    """Write the files of one section and return their names; what it cannot have is added to `left_out`."""
    name = section.sample.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SencaError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from None
    names = [f"{name}.h5ad", f"{name}_regions.csv", f"{name}_markers.csv"]
    write_anndata(section, folder / names[0])
    write_csv(spot_regions(section), folder / names[1])
    write_csv(section.portrait.markers, folder / names[2])
    try:
        outlines = section_outlines(section)
    except SencaError as error:
        left_out.append(Problem(name, "outlines of its regions", str(error)))
        return tuple(names)
    names.append(geojson_name(section))
    write_geojson(section, outlines, folder / names[-1])
    if with_spatialdata:
        names.append(f"{name}.zarr")
        spatial_data.write_zarr(section, outlines, folder / names[-1])
    return tuple(names)


def _readme(description: dict[str, Any]) -> str:
    """What the folder holds, and what has to be known to read it rightly."""
    parts = [
        f"Regions of the study {description['name']}, a folder a section. docs/export.md of senca-ray "
        "tells how to open the files.",
        *([SIMULATED] if description["simulated"] else []),
        f"Markers (SAMPLE_markers.csv). {COLUMNS_EXPLAINED} {DOUBLE_DIPPING}",
        "confidence: share of the seeds that agree with a spot's region. kind: regions of different sections "
        "that express alike, and where all sections have an image look alike, have the same number.",
        "CSV: a text that a spreadsheet would run as a formula has an apostrophe before it; h5ad, zarr and "
        "GeoJSON have it as it was.",
    ]
    return "\n\n".join(parts) + "\n"
