"""Everything that a study's page and W&B run show, loaded once from the study's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from senca_ray import keys
from senca_ray.analysis.benchmark import main_rows
from senca_ray.analysis.description import read_description
from senca_ray.analysis.objectives import objective_agreement
from senca_ray.analysis.portrait import Portrait, read_portraits
from senca_ray.analysis.progress import partial
from senca_ray.analysis.results import read_fits
from senca_ray.analysis.selection import TUNED, main_fold, read_selection, with_selection
from senca_ray.analysis.tables import sample_table
from senca_ray.data.shards import Display, read_display
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.methods import MODEL, all_methods

_MADE_BY = {
    keys.STUDY_FILE: "give the folder that was an experiment's --out",
    keys.RESULTS_FILE: "finish the study with `senca resume {}`",
    keys.REGIONS_FILE: "finish the study with `senca resume {}`",
    keys.SUMMARY_FILE: "make it from the results with `senca report {}`",
}

VARIANT = (keys.METHOD, keys.SETTING, keys.CLUSTERING, keys.K_POLICY)
"""What tables and maps have one line or panel for."""
Variant = tuple[str, ...]


@dataclass(frozen=True)
class StudyView:
    """One study in memory."""

    folder: Path
    description: dict[str, Any]
    """study.json."""
    results: pd.DataFrame
    """One row a seed and one a consensus, with its `regions`, (N,) int16, where it has any."""
    compared: pd.DataFrame
    """The rows that tables and maps are made of.

    Of a search the default, what was tested, and the controls; of a benchmark those under its own protocol.
    """
    summary: pd.DataFrame
    """One row per block and variant, with its tests."""
    sections: pd.DataFrame
    """One row per block, variant and section, averaged over seeds."""
    ranking: pd.DataFrame
    """How well scores without labels rank the settings; empty where that cannot be said."""
    selection: dict[str, Any] | None
    """What a search tried and chose, selection.json; None for all others."""
    displays: dict[str, Display]
    """Sections by sample id, in the study's order."""
    unreadable: dict[str, str]
    """Sections whose shard cannot be read, with the reason."""
    portraits: dict[str, Portrait]
    """What is known of the regions to go on with, by sample id; none in a study of an earlier version."""
    partial: str | None = None
    """How much of a study that has not finished all this rests on, '31 of 48 trials'; None at its end."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label of the cohort, sorted, without `undetermined`: one label has one colour everywhere."""
        found = {str(x) for d in self.displays.values() if d.labels is not None for x in d.labels}
        return tuple(sorted(found - {keys.UNDETERMINED}))

    @property
    def default(self) -> str:
        """The setting that the others are tested against."""
        return str(self.description["default"])

    @property
    def folds(self) -> list[dict[str, Any]]:
        """The folds of a search; none for all others."""
        return self.selection["folds"] if self.selection else []

    @property
    def main_fold(self) -> dict[str, Any]:
        """The fold of a search whose choice is the one to go on with: of all patients, else the only one."""
        return main_fold(self.selection or {})

    @property
    def own(self) -> pd.DataFrame:
        """All rows under the study's own protocol."""
        return self.compared if self.selection is None else self.results

    @property
    def tried(self) -> pd.DataFrame:
        """The rows whose failures are told; a method that is not installed is missing, which is none."""
        if self.description["kind"] != "benchmark":
            return self.results
        return self.compared[~self.compared[keys.METHOD].isin(missing(self.compared))]

    def drawn(self, sample: str) -> pd.DataFrame:
        """The rows of a section that maps show.

        Those compared; and of a search, where the section tests no setting, the one chosen (under its own
        label), the default and the controls.
        """
        if self.selection is None:
            return self.compared[self.compared[keys.SAMPLE] == sample]
        rows = self.results[self.results[keys.SAMPLE] == sample]
        tuned = self.compared[(self.compared[keys.SAMPLE] == sample) & (self.compared[keys.SETTING] == TUNED)]
        named = {self.default} if len(tuned) else {self.default, self.main_fold["chosen"]}
        return pd.concat([rows[(rows[keys.METHOD] != MODEL) | rows[keys.SETTING].isin(named)], tuned])

    def variants(self, rows: pd.DataFrame) -> list[Variant]:
        """The variants in `rows`, in the order of the summary within a block."""
        present = set(rows[list(VARIANT)].itertuples(index=False, name=None))
        return sorted(present, key=lambda variant: _rank(variant, self.description))


def settings_of(description: dict[str, Any]) -> list[str]:
    """Labels of the model's settings in the order of tables and figures."""
    if description["kind"] == "search":
        return [description["default"], TUNED]
    labels = list(description["variants"])
    # Values of one field have an order of their own; parts left out are read against the whole.
    return labels if description["vary"] else sorted(labels, key=lambda name: name != description["default"])


def value_of(description: dict[str, Any], label: str) -> Any:
    """The value that a variant gives to the varied field."""
    vary = description["vary"]
    return description["variants"][label].get(vary, description["setting"][vary])


def is_model(variant: Variant) -> bool:
    """False for controls."""
    return variant[0] == MODEL


def is_consensus(variant: Variant) -> bool:
    """True for partitions that combine the seeds of a trial."""
    return variant[2] == keys.CONSENSUS


def _rank(variant: Variant, description: dict[str, Any]) -> tuple[Any, ...]:
    """Single seeds before their consensus, the model before controls, its settings in the study's order."""
    settings = settings_of(description)
    place = settings.index(variant[1]) if variant[1] in settings else len(settings)
    return (is_consensus(variant), not is_model(variant), place if is_model(variant) else 0, *variant)


def n_fits(rows: pd.DataFrame) -> int:
    """Fits among result rows: a consensus is none, and a fit may be read in several ways."""
    single = rows[rows[keys.CLUSTERING] != keys.CONSENSUS]
    return len(single[[keys.METHOD, keys.SETTING, keys.SAMPLE, keys.SEED]].drop_duplicates())


def missing(rows: pd.DataFrame) -> dict[str, str]:
    """Methods that are not installed where the study ran, with the way to get each."""
    found = {}
    known = all_methods()
    for name, part in rows[rows[keys.CLUSTERING] != keys.CONSENSUS].groupby(keys.METHOD):
        if (part[keys.STATUS] == keys.OK).any():
            continue
        now = known[str(name)].missing() if name in known else ""
        reason = next(iter(part[keys.REASON]))
        # What was missing when the study ran may be there when the page is drawn.
        if reason.startswith("not installed") or (now and reason == now):
            found[str(name)] = str(reason)
    return found


def explain(method: str) -> str:
    """What a method does, in words; empty for one that is not installed here."""
    known = all_methods()
    return known[method].title if method in known else ""


def load_study(study_dir: Path) -> StudyView:
    """Load the study in `study_dir`.

    While it has no tables yet, its journal stands in for them. Raises ProblemsError naming every file that is
    missing and the command that makes it, SencaError for one that cannot be read. A section whose shard is
    gone or damaged is no error: the rest can still be shown.
    """
    folder = Path(study_dir)
    stand_in = (keys.RESULTS_FILE, keys.REGIONS_FILE) if (folder / keys.JOURNAL_FILE).is_file() else ()
    missing = [
        Problem("-", name, f"missing in {folder}; {made_by.format(folder)}")
        for name, made_by in _MADE_BY.items()
        if name not in stand_in and not (folder / name).is_file()
    ]
    if missing:
        raise ProblemsError(missing, "the study folder")
    description = read_description(folder)
    results = read_fits(folder)
    selection = read_selection(folder) if description["kind"] == "search" else None
    benchmark = description["kind"] == "benchmark"
    compared = with_selection(results, selection) if selection else results
    if benchmark:
        compared = main_rows(results, description)
    displays, unreadable = _read_displays(description["shards"])
    return StudyView(
        folder=folder,
        description=description,
        results=results,
        compared=compared,
        summary=_read_summary(folder),
        sections=sample_table(compared),
        ranking=pd.DataFrame() if benchmark else objective_agreement(results),
        selection=selection,
        displays=displays,
        unreadable=unreadable,
        portraits=read_portraits(folder, list(displays)),
        partial=partial(folder, description, results),
    )


def _read_summary(folder: Path) -> pd.DataFrame:
    path = folder / keys.SUMMARY_FILE
    try:
        # "null" is a kind of method, not an empty cell.
        numbers: Any = {"n_paired": "Int64", "wins": "Int64"}
        summary = pd.read_csv(path, dtype=numbers, keep_default_na=False, na_values=[""])
        words = [name for name in ("remark", "kind", "source") if name == "remark" or name in summary]
        return summary.assign(**{name: summary[name].fillna("") for name in words})
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
