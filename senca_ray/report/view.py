"""Everything that a study's page and W&B run show, loaded once from the study's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from senca_ray import keys
from senca_ray.analysis.description import read_description
from senca_ray.analysis.results import read_regions, read_results
from senca_ray.analysis.tables import sample_table
from senca_ray.data.shards import Display, read_display
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.methods import METHODS, MODEL

_MADE_BY = {
    keys.STUDY_FILE: "give the folder that was an experiment's --out",
    keys.RESULTS_FILE: "finish the study with `senca resume {}`",
    keys.REGIONS_FILE: "finish the study with `senca resume {}`",
    keys.SUMMARY_FILE: "make it from the results with `senca report {}`",
}

VARIANT = (keys.METHOD, keys.SETTING, keys.CLUSTERING, keys.K_POLICY)
"""What tables and maps have one line or panel for."""


@dataclass(frozen=True)
class StudyView:
    """One study in memory."""

    folder: Path
    description: dict[str, Any]
    """study.json."""
    results: pd.DataFrame
    """One row a seed, with its `regions`, (N,) int16, where it has any."""
    summary: pd.DataFrame
    """One row per block and variant, with its tests."""
    sections: pd.DataFrame
    """One row per block, variant and section, averaged over seeds."""
    displays: dict[str, Display]
    """Sections by sample id, in the study's order."""
    unreadable: dict[str, str]
    """Sections whose shard cannot be read, with the reason."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label of the cohort, sorted, without `undetermined`: one label has one colour everywhere."""
        found = {str(x) for d in self.displays.values() if d.labels is not None for x in d.labels}
        return tuple(sorted(found - {keys.UNDETERMINED}))

    def setting(self, value: object) -> str:
        """How result rows name a value of the sweep."""
        return f"{self.description['vary']}={value}"

    @property
    def default(self) -> str:
        """The setting that the others are tested against."""
        return self.setting(self.description["default"])

    def variants(self, rows: pd.DataFrame) -> list[tuple[str, ...]]:
        """The variants in `rows`: the model's settings in the order of the summary, then the controls."""
        present = set(rows[list(VARIANT)].itertuples(index=False, name=None))
        ordered = self.summary[list(VARIANT)].drop_duplicates().itertuples(index=False, name=None)
        return sorted((v for v in ordered if v in present), key=lambda v: (not is_model(v), v[0]))


def is_model(variant: tuple[str, ...]) -> bool:
    """False for controls."""
    return variant[0] == MODEL


def explain(method: str) -> str:
    """What a method does, in words; empty for one that is not installed here."""
    return METHODS[method].title if method in METHODS else ""


def load_study(study_dir: Path) -> StudyView:
    """Load the study in `study_dir`.

    Raises ProblemsError naming every file that is missing and the command that makes it, SencaError for one
    that cannot be read. A section whose shard is gone or damaged is no error: the rest can still be shown.
    """
    folder = Path(study_dir)
    missing = [
        Problem("-", name, f"missing in {folder}; {made_by.format(folder)}")
        for name, made_by in _MADE_BY.items()
        if not (folder / name).is_file()
    ]
    if missing:
        raise ProblemsError(missing, "the study folder")
    description = read_description(folder)
    results = read_results(folder)
    displays, unreadable = _read_displays(description["shards"])
    return StudyView(
        folder=folder,
        description=description,
        results=results.merge(read_regions(folder), how="left", on=list(keys.ROW_KEY)),
        summary=_read_summary(folder),
        sections=sample_table(results),
        displays=displays,
        unreadable=unreadable,
    )


def _read_summary(folder: Path) -> pd.DataFrame:
    path = folder / keys.SUMMARY_FILE
    try:
        summary = pd.read_csv(path, dtype={"n_paired": "Int64", "wins": "Int64"})
        return summary.assign(remark=summary["remark"].fillna(""))
    except (OSError, ValueError, KeyError) as error:
        fix = _MADE_BY[keys.SUMMARY_FILE].format(folder)
        raise SencaError(f"{path}: cannot be read ({error}); {fix}") from None


def _read_displays(shards: dict[str, str]) -> tuple[dict[str, Display], dict[str, str]]:
    displays, unreadable = {}, {}
    for sample, uri in shards.items():
        try:
            displays[sample] = read_display(uri)
        except (SencaError, OSError, ValueError, KeyError, pa.ArrowException) as error:
            unreadable[sample] = str(error)
    return displays, unreadable
