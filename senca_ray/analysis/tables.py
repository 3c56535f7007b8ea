"""The tables that a sweep ends with: per setting with paired tests, and per section."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
from rich import box
from rich.table import Table

from senca_ray import keys
from senca_ray.analysis.statistics import average_within_patients, holm, paired_comparison, remark
from senca_ray.errors import SencaError
from senca_ray.files import write_whole

PROTOCOL = "all spots clustered; undetermined left out of the score"
HOLM_FAMILIES = "Holm's correction: swept settings are one family a block, controls another"

SUMMARY_COLUMNS = (
    *("block", keys.METHOD, keys.SETTING, keys.CLUSTERING, keys.K_POLICY, "is_default"),
    *("mean_ari", "median_ari", "sd_seeds", "n_sections", "n_patients", "n_seeds", "n_failed"),
    *("n_paired", "mean_difference", "t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm", "wins", "remark"),
)
Key = tuple[str, ...]

_BLOCK = [keys.LABEL_SOURCE, keys.MODALITY]
_GROUP = [*_BLOCK, keys.METHOD, keys.SETTING, keys.CLUSTERING, keys.K_POLICY]
_SOURCE_WORDS = {
    keys.ANNOTATED: "annotated",
    keys.TRANSFERRED: "transferred labels",
    keys.SIMULATED: "simulated",
    keys.UNLABELLED: "without labels",
}


def block_title(label_source: str, modality: str) -> str:
    """A block in words, for example 'annotated, without image'."""
    if not label_source:
        return "sections that could not be read"
    image = "with image" if modality == keys.RNA_IMAGE else "without image"
    return f"{_SOURCE_WORDS[label_source]}, {image}"


def sweep_summary(
    results: pd.DataFrame, default_setting: str, reference_method: str = "senca"
) -> pd.DataFrame:
    """One row per block, method, setting, clustering and k policy, tested against the default setting.

    A block is one label source with one modality; blocks are never averaged together. Seeds, then sections,
    are averaged within the patient; means, medians and tests are over patients. `sd_seeds` is the sd over
    seeds (ddof 1) of that mean. A row is tested against the default of `reference_method` of the same block
    and k policy, and of the same clustering where the default has it, over the sections that both have
    (`n_paired` patients). Other values of the sweep are one Holm family a block; controls, all other
    methods, are a second one. Blocks without labels have NaN scores.
    Raises SencaError when `reference_method` has no row with the default setting.
    """
    model = results[keys.METHOD] == reference_method
    settings = sorted(set(results.loc[model, keys.SETTING]), key=_natural)
    if default_setting not in settings:
        raise SencaError(
            f"default setting {default_setting!r} of {reference_method} not found in the results; "
            f"expected one of: {', '.join(settings) or 'none (no rows of this method)'}"
        )
    groups = _groups(_with_blocks(results), _GROUP)
    families: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    rows = []
    for key in sorted(groups, key=lambda key: _order(key, reference_method)):
        row = _describe(groups[key], key)
        is_model = row[keys.METHOD] == reference_method
        row["is_default"] = is_model and row[keys.SETTING] == default_setting
        if not row["is_default"]:
            row |= _compare(groups, key, reference_method, default_setting)
            families.setdefault((row["block"], is_model), []).append(row)
        rows.append(row)
    for family in families.values():
        _correct(family)
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS)).astype({"n_paired": "Int64", "wins": "Int64"})


def _with_blocks(results: pd.DataFrame) -> pd.DataFrame:
    """Rows of a trial that could not read its section take patient and block from the section's others."""
    columns = [keys.PATIENT, *_BLOCK]
    known = results.groupby(keys.SAMPLE)[columns].transform("first")
    return results.assign(**{name: results[name].fillna(known[name]).fillna("") for name in columns})


def _groups(frame: pd.DataFrame, columns: list[str]) -> dict[Key, pd.DataFrame]:
    return {cast(Key, key): group for key, group in frame.groupby(columns)}


def _correct(family: list[dict[str, Any]]) -> None:
    """Add Holm's correction and what the number of patients cannot show to one family of tests."""
    for name in ("t_p", "wilcoxon_p"):
        for row, corrected in zip(family, holm([row[name] for row in family]), strict=True):
            row[f"{name}_holm"] = corrected
    n_tests = sum(not math.isnan(row["wilcoxon_p"]) for row in family)
    for row in family:
        if row["n_paired"]:
            texts = (*row["remark"].split("; "), remark(row["n_paired"], n_tests))
            row["remark"] = "; ".join(dict.fromkeys(filter(None, texts)))


def _describe(group: pd.DataFrame, key: Key) -> dict[str, Any]:
    source, modality, *identity = key
    done = group[group[keys.STATUS] == keys.OK]
    patients = average_within_patients(done)
    scored = done.dropna(subset=[keys.ARI])
    counted = scored if len(scored) else done
    return {
        "block": block_title(source, modality),
        **dict(zip(_GROUP[2:], identity, strict=True)),
        "mean_ari": patients.mean(),
        "median_ari": patients.median(),
        "sd_seeds": _sd_over_seeds(scored),
        "n_sections": counted[keys.SAMPLE].nunique(),
        "n_patients": counted[keys.PATIENT].nunique(),
        "n_seeds": counted[keys.SEED].nunique(),
        "n_failed": len(group) - len(done),
        "remark": "",
    }


def _sd_over_seeds(scored: pd.DataFrame) -> float:
    """Sd of the mean over patients, using the seeds that every section has; NaN with fewer than two."""
    sections = scored[keys.SAMPLE].nunique()
    seeds = scored.groupby(keys.SEED)
    means = [average_within_patients(g).mean() for _, g in seeds if g[keys.SAMPLE].nunique() == sections]
    return float(pd.Series(means, dtype=float).std(ddof=1))


def _compare(groups: dict[Key, pd.DataFrame], key: Key, method: str, setting: str) -> dict[str, Any]:
    """The paired test of one row against the default, over the sections that came out in both."""
    *block, _, _, clustering, k_policy = key
    candidates = [other for other in groups if other == (*block, method, setting, other[4], k_policy)]
    # A control clusters in its own way; then it meets the default as the default is clustered.
    references = sorted(candidates, key=lambda other: (other[4] != clustering, other[4]))[:1]
    value = _scored(groups[key])
    reference = pd.concat([value[:0], *(_scored(groups[other]) for other in references)])
    shared = set(value[keys.SAMPLE]) & set(reference[keys.SAMPLE])
    apart = sorted((set(value[keys.SAMPLE]) | set(reference[keys.SAMPLE])) - shared)
    test = paired_comparison(
        *(average_within_patients(frame[frame[keys.SAMPLE].isin(shared)]) for frame in (value, reference))
    )
    texts = [f"compared without {', '.join(apart)}, scored on one side only"] if apart else []
    if not len(value) and not len(reference):
        texts = ["no score to compare"]
    elif test.remark:
        texts.append(test.remark)
    return {
        "n_paired": test.n,
        "mean_difference": test.mean_difference,
        "t_p": test.t_p,
        "wilcoxon_p": test.wilcoxon_p,
        "wins": test.wins,
        "remark": "; ".join(texts),
    }


def _scored(group: pd.DataFrame) -> pd.DataFrame:
    return group[group[keys.STATUS] == keys.OK].dropna(subset=[keys.ARI])


def _natural(text: str) -> tuple[tuple[int, float, str], ...]:
    """Sort key that puts neighbors=4 before neighbors=16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return tuple((0, float(p), "") if i % 2 else (1, math.inf, p) for i, p in enumerate(parts))


def _order(key: Key, reference_method: str) -> tuple[Any, ...]:
    source, modality, method, setting, clustering, k_policy = key
    block = ((*keys.LABEL_SOURCES, "").index(source), modality)
    return (*block, method != reference_method, method, _natural(setting), clustering, k_policy)


def sample_table(results: pd.DataFrame) -> pd.DataFrame:
    """One row per block, method, setting, clustering, k policy and section, averaged over its seeds.

    Columns: block, method, setting, clustering, k_policy, sample, patient, k (median over seeds), mean_ari,
    sd_seeds (ddof 1), n_seeds, n_failed.
    """
    rows = []
    for key, group in _groups(_with_blocks(results), [*_GROUP, keys.SAMPLE, keys.PATIENT]).items():
        source, modality, *identity = key
        done = group[group[keys.STATUS] == keys.OK]
        rows.append(
            {
                "block": block_title(source, modality),
                **dict(zip([*_GROUP[2:], keys.SAMPLE, keys.PATIENT], identity, strict=True)),
                keys.K: done[keys.K].median(),
                "mean_ari": done[keys.ARI].mean(),
                "sd_seeds": done[keys.ARI].std(ddof=1),
                "n_seeds": done[keys.SEED].nunique(),
                "n_failed": len(group) - len(done),
            }
        )
    return pd.DataFrame(rows)


def write_summary(study_dir: Path, summary: pd.DataFrame) -> Path:
    """Write summary.csv whole or not at all and return its path; raises SencaError."""
    path = Path(study_dir) / keys.SUMMARY_FILE
    write_whole(path, lambda temporary: summary.to_csv(temporary, index=False))
    return path


def format_summary(summary: pd.DataFrame, seeds: Sequence[int], k_policy: str) -> list[Table]:
    """The summary for a terminal of 80 columns: one table a block, remarks below it."""
    blocks = summary.groupby("block", sort=False)
    return [_block_table(str(block), rows, seeds, k_policy) for block, rows in blocks]


def _block_table(block: str, rows: pd.DataFrame, seeds: Sequence[int], k_policy: str) -> Table:
    oracle = " (oracle: taken from the labels)" if k_policy == "labels" else ""
    title = (
        f"{block}: {_count(rows['n_sections'].max(), 'section')} of "
        f"{_count(rows['n_patients'].max(), 'patient')}, {_count(len(seeds), 'seed')} "
        f"({min(seeds)} to {max(seeds)})\nk policy {k_policy}{oracle}; {PROTOCOL}"
    )
    table = Table(
        title=title,
        caption="\n".join(_remarks(rows)),
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("\nmethod", overflow="fold")
    numbers = ["ARI\nmean", "\nmedian", "sd of\nseeds", "differ-\nence", "\nwins"]
    for name in (*numbers, "t test\np Holm", "Wilcoxon\np Holm"):
        table.add_column(name, justify="right", no_wrap=True)
    failures = rows["n_failed"].any()
    if failures:
        table.add_column("fits\nfailed", justify="right", no_wrap=True)
    previous = None
    for row in rows.to_dict("records"):
        if previous and rows[keys.METHOD].iloc[0] == previous != row[keys.METHOD]:
            table.add_section()  # controls below the model
        previous = row[keys.METHOD]
        compared = not row["is_default"] and row["n_paired"]
        table.add_row(
            _row_name(row),
            *(_number(row[name], "") for name in ("mean_ari", "median_ari", "sd_seeds")),
            "default" if row["is_default"] else _number(row["mean_difference"], "+"),
            f"{row['wins']}/{row['n_paired']}" if compared else "",
            *("<0.001" if row[p] < 0.001 else _number(row[p], "") for p in ("t_p_holm", "wilcoxon_p_holm")),
            *([str(row["n_failed"] or "")] if failures else []),
        )
    return table


def _row_name(row: dict[Any, Any]) -> str:
    """Method and setting, or, for a control with none, its clustering: 'smoothed-pca (kmeans)'."""
    if "=" in row[keys.SETTING]:
        return f"{row[keys.METHOD]} {row[keys.SETTING]}"
    return f"{row[keys.METHOD]} ({row[keys.CLUSTERING]})"


def _remarks(rows: pd.DataFrame) -> list[str]:
    """Each remark once, with the rows it is about unless it is about all that were compared."""
    compared = rows[~rows["is_default"]]
    about: dict[str, list[str]] = {}
    for row in compared.to_dict("records"):
        about.setdefault(row["remark"], []).append(_row_name(row))
    lines = [
        text if len(names) == len(compared) else f"{', '.join(names)}: {text}"
        for text, names in about.items()
        if text
    ]
    return [*lines, HOLM_FAMILIES] if compared["wilcoxon_p"].notna().any() else lines


def _number(value: float, sign: str) -> str:
    return "" if pd.isna(value) else f"{value:{sign}.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
