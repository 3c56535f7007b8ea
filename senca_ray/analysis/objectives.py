"""How well the objectives that need no labels rank settings, compared with ARI where labels exist."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from scipy import stats

from senca_ray import keys
from senca_ray.analysis.blocks import BLOCK, block_order, block_title, with_blocks
from senca_ray.analysis.terminal import number, plain_table, remark_lines
from senca_ray.study.objective import DIRECTIONS, LOSS_FIELDS, MAXIMISE

HIGHER_IS_BETTER = {name: way == MAXIMISE for name, way in DIRECTIONS.items()}
"""Everything that a setting can be chosen by."""
LABEL_FREE = (keys.SILHOUETTE, keys.CHAOS, keys.PAS, keys.STABILITY, keys.LOSS_LAST)
"""The objectives that a cohort without labels can be tuned by."""

AGREEMENT_COLUMNS = (
    *("block", "objective", "spearman", "low", "high"),
    *("n_settings", "n_patients", "remark"),
)
_SECTION = [*BLOCK, keys.PATIENT, keys.SAMPLE, keys.SETTING]
_FEWEST_SETTINGS, _FEWEST_PATIENTS = 4, 3


def section_objectives(results: pd.DataFrame, method: str = "senca") -> pd.DataFrame:
    """Every objective of `method` on every section at every setting, averaged over seeds.

    Stability is that of the seeds' consensus; all else is the mean of the single seeds. Indexed by block,
    patient, sample and setting, one column an objective; NaN where it was not measured.
    """
    rows = with_blocks(results)
    rows = rows[(rows[keys.METHOD] == method) & (rows[keys.STATUS] == keys.OK)]
    consensus = rows[keys.CLUSTERING] == keys.CONSENSUS
    single = [name for name in HIGHER_IS_BETTER if name != keys.STABILITY]
    means = rows[~consensus].groupby(_SECTION)[single].mean()
    stability = rows[consensus].groupby(_SECTION)[keys.STABILITY].mean()
    return means.join(stability)


def objective_agreement(results: pd.DataFrame, method: str = "senca") -> pd.DataFrame:
    """How far each label-free objective ranks the settings of `method` as ARI does; one row a block and each.

    Within a patient, Spearman's correlation over settings between objective and ARI, both averaged over
    seeds, then sections; the sign is such that 1 says that the objective prefers what ARI prefers. `spearman`
    is the mean over patients, `low` to `high` its 95 % bootstrap percentile interval over patients. A setting
    counts in a patient when it has both on all sections of that patient; `n_settings` is the number of
    settings ranked in the patient with the fewest. Patients in whom one side is the same for every setting
    rank nothing and are left out. Blocks without labels have no row.
    """
    sections = section_objectives(results, method)
    sections = sections[sections[keys.ARI].notna()]
    comparable = _losses_comparable(results[results[keys.METHOD] == method])
    labels, modalities = (sections.index.get_level_values(name) for name in BLOCK)
    rows: list[dict[str, Any]] = []
    for block in sorted(set(zip(labels, modalities, strict=True)), key=lambda block: block_order(*block)):
        for objective in LABEL_FREE:
            measured = sections.loc[block]
            if objective == keys.LOSS_LAST and not comparable:
                measured = measured.assign(**{objective: math.nan})
            found = _agreement(measured, objective)
            if objective == keys.LOSS_LAST and not comparable:
                found["remark"] = "the settings change what the loss measures"
            rows.append({"block": block_title(*block), "objective": objective} | found)
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def _losses_comparable(rows: pd.DataFrame) -> bool:
    settings = [json.loads(text) for text in rows[keys.CONFIG].dropna().unique()]
    return len({tuple(setting.get(name) for name in sorted(LOSS_FIELDS)) for setting in settings}) <= 1


def _agreement(sections: pd.DataFrame, objective: str) -> dict[str, Any]:
    measured = sections[[keys.ARI, objective]].dropna()
    if not HIGHER_IS_BETTER[objective]:
        measured = measured.assign(**{objective: -measured[objective]})
    settings = measured.groupby([keys.PATIENT, keys.SETTING])
    held = measured.reset_index(keys.SAMPLE).groupby(keys.PATIENT)[keys.SAMPLE].nunique()
    whole = settings.size()
    # A mean over fewer sections would rank the sections, not the settings.
    means = settings.mean()[whole == held.reindex(whole.index.get_level_values(keys.PATIENT)).to_numpy()]
    correlations, counts = [], []
    for _, patient in means.groupby(keys.PATIENT):
        if (patient.nunique() > 1).all():
            correlations.append(stats.spearmanr(patient[keys.ARI], patient[objective]).statistic)
            counts.append(len(patient))
    low, high = _interval(correlations)
    return {
        "spearman": float(np.mean(correlations)) if correlations else math.nan,
        "low": low,
        "high": high,
        "n_settings": min(counts, default=0),
        "n_patients": len(correlations),
        "remark": _remark(len(measured), min(counts, default=0), len(correlations)),
    }


def _interval(values: list[float]) -> tuple[float, float]:
    """95 % bootstrap percentile interval of the mean; NaN with fewer than two values."""
    if len(values) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    found = stats.bootstrap((values,), np.mean, n_resamples=9_999, method="percentile", rng=rng)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _remark(n_measured: int, n_settings: int, n_patients: int) -> str:
    if not n_measured:
        return "not measured"
    if not n_patients:
        return "no patient has two settings that differ in both"
    texts = []
    if n_settings < _FEWEST_SETTINGS:
        texts.append(f"a ranking of {n_settings} settings says little")
    if n_patients < _FEWEST_PATIENTS:
        patients = "1 patient has" if n_patients == 1 else f"{n_patients} patients have"
        texts.append(f"{patients} no interval to speak of")
    return "; ".join(texts)


def format_agreement(agreement: pd.DataFrame) -> list[Table]:
    """The agreement with ARI for a terminal of 80 columns: one table a block, remarks below it."""
    tables = []
    for block, rows in agreement.groupby("block", sort=False):
        table = plain_table(
            f"{block}: do objectives without labels rank settings as ARI does?\n"
            "Spearman over settings within a patient, mean over patients; 1 is full agreement",
            ["objective"],
            ["Spearman", "95 % interval", "settings", "patients"],
            remark_lines(zip(rows["objective"], rows["remark"], strict=True)),
        )
        for row in rows.to_dict("records"):
            better = "higher" if HIGHER_IS_BETTER[row["objective"]] else "lower"
            interval = f"{number(row['low'], '+')} to {number(row['high'], '+')}"
            table.add_row(
                f"{row['objective']} ({better} is better)",
                number(row["spearman"], "+"),
                "" if math.isnan(row["low"]) else interval,
                *(str(row[name] or "") for name in ("n_settings", "n_patients")),
            )
        tables.append(table)
    return tables
