"""The tables that a study ends with: per setting with paired tests, and per section."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
from rich.table import Table

from senca_ray import keys
from senca_ray.analysis.blocks import BLOCK, block_order, block_titles, with_blocks
from senca_ray.analysis.statistics import (
    PairedTest,
    average_within_patients,
    average_within_sections,
    compare_sections,
    correct_family,
)
from senca_ray.analysis.terminal import count, natural, number, p_value, plain_table, remark_lines, row_name
from senca_ray.errors import SencaError
from senca_ray.files import write_whole
from senca_ray.methods.protocol import Protocol

LABEL_FREE = {keys.SILHOUETTE: "mean_silhouette", keys.CHAOS: "mean_chaos", keys.PAS: "mean_pas"}
"""Scores that need no labels, with their columns of a summary; keys.STABILITY beside them."""
LABEL_FREE_NOTE = (
    "Without labels nothing says which setting a pathologist would prefer, and nothing is tested. "
    "Silhouette: how compact regions are in the method's own embedding, so methods do not compare by it. "
    "CHAOS, PAS: how scattered regions are over the tissue. Stability: how far seeds agree. All depend on "
    "k, the number of regions (mean over seeds, median over sections)."
)
_LEAST_WIDTH = 72
"""Of a table with few columns: the notes below fold to its width."""
HOLM_FAMILIES = "Holm's correction: a block's settings are one family, its controls another; consensus apart"

SUMMARY_COLUMNS = (
    *("block", keys.METHOD, keys.SETTING, keys.CLUSTERING, keys.K_POLICY, "is_default"),
    *(
        "mean_ari",
        "median_ari",
        "sd_seeds",
        keys.STABILITY,
        "n_sections",
        "n_patients",
        "n_seeds",
        "n_failed",
    ),
    *("median_k", *LABEL_FREE.values()),
    *("n_paired", "mean_difference", "t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm", "wins", "remark"),
)
Key = tuple[str, ...]

_VARIANT = [keys.METHOD, keys.SETTING, keys.CLUSTERING, keys.K_POLICY]
GROUP = [*BLOCK, *_VARIANT]
"""What a row of a summary stands for."""


def sweep_summary(
    results: pd.DataFrame,
    default_setting: str,
    reference_method: str = "senca",
    order: Sequence[str] = (),
) -> pd.DataFrame:
    """One row per block, method, setting, clustering and k policy, tested against the default setting.

    A block is one label source with one modality; blocks are never averaged together. Seeds, then sections,
    are averaged within the patient; means, medians and tests are over patients. `sd_seeds` is the sd over
    seeds (ddof 1) of that mean. A row is tested against the default of `reference_method` of the same block
    and k policy, and of the same clustering where the default has it, over the sections that both have
    (`n_paired` patients); a consensus over seeds only against the default's consensus. Other settings are one
    Holm family a block; controls, all other methods, are a second one; those of the consensus rows are two
    more. Blocks without labels have NaN there, and like all others the means over patients of the scores
    that need no labels; `median_k` is over sections. `stability` is known of consensus rows, whose `n_seeds`
    is the number of seeds combined. Settings come in the given `order` of labels, others after them by name.
    Raises SencaError when `reference_method` has no row with the default setting.
    """
    settings = set(results.loc[results[keys.METHOD] == reference_method, keys.SETTING])
    if default_setting not in settings:
        raise SencaError(
            f"default setting {default_setting!r} of {reference_method} not found in the results; expected "
            f"one of: {', '.join(sorted(settings, key=natural)) or 'none (no rows of this method)'}"
        )
    rows = with_blocks(results)
    scored = rows[rows[keys.STATUS] == keys.OK].dropna(subset=[keys.ARI])
    described = describe_groups(rows, scored)
    groups: list[Key] = sorted(described, key=lambda key: _order(key, reference_method, order))
    compared = [key for key in groups if not _is(key, reference_method, default_setting)]
    tests = _compare(scored, groups, compared, reference_method, default_setting)
    families: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for key in compared:
        described[key] |= tests[key] | {"is_default": False}
        family = described[key]["block"], key[2] == reference_method, _is_consensus(key)
        families.setdefault(family, []).append(described[key])
    for members in families.values():
        correct_family(members)
    summary = pd.DataFrame([described[key] for key in groups], columns=list(SUMMARY_COLUMNS))
    return summary.astype({"n_paired": "Int64", "wins": "Int64"})


def _is(key: Key, method: str, setting: str) -> bool:
    return key[2:4] == (method, setting)


def _is_consensus(key: Key) -> bool:
    return key[4] == keys.CONSENSUS


def describe_groups(
    rows: pd.DataFrame, scored: pd.DataFrame, average: Callable[..., pd.Series] = average_within_patients
) -> dict[Key, dict[str, Any]]:
    """Scores and counts of every group of rows, as if it were the default; `average` gives a score a unit."""
    groups = rows.groupby(GROUP).size()
    done = rows[rows[keys.STATUS] == keys.OK]
    units = average(scored, by=GROUP).groupby(GROUP)
    # Where there is a score, what has none does not count.
    counts = _counts(scored).combine_first(_counts(done)).reindex(groups.index)
    described = counts.fillna({name: 0 for name in counts}).astype(int)
    described["mean_ari"], described["median_ari"] = units.mean(), units.median()
    described["sd_seeds"] = _sd_over_seeds(scored, average)
    for name, column in (LABEL_FREE | {keys.STABILITY: keys.STABILITY}).items():
        described[column] = average(done, name, GROUP).groupby(GROUP).mean()
    described["median_k"] = average_within_sections(done, keys.K, GROUP).groupby(GROUP).median()
    described["n_failed"] = groups - done.groupby(GROUP).size().reindex(groups.index, fill_value=0)
    described = described.assign(block=block_titles(groups.index), is_default=True, remark="").reset_index()
    keyed = zip(map(tuple, groups.index), described.to_dict("records"), strict=True)
    return {cast(Key, key): cast(dict[str, Any], row) for key, row in keyed}


def _counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Sections, patients and seeds of every group."""
    groups = rows.groupby(GROUP)
    counts = groups.agg(n_sections=(keys.SAMPLE, "nunique"), n_patients=(keys.PATIENT, "nunique"))
    return counts.assign(n_seeds=_n_seeds(groups))


def _sd_over_seeds(scored: pd.DataFrame, average: Callable[..., pd.Series]) -> pd.Series:
    """Sd of each group's mean over units, using the seeds that every section has; NaN with one seed."""
    by_seed = [*GROUP, keys.SEED]
    means = average(scored, by=by_seed).groupby(by_seed).mean()
    held = scored.groupby(by_seed)[keys.SAMPLE].nunique()
    sections = scored.assign(sections=scored.groupby(GROUP)[keys.SAMPLE].transform("nunique"))
    whole = held == sections.groupby(by_seed)["sections"].first()
    return means[whole].groupby(GROUP).std(ddof=1)


def _compare(
    scored: pd.DataFrame, groups: list[Key], compared: list[Key], method: str, setting: str
) -> dict[Key, dict[str, Any]]:
    """The paired test of each row against its default, over the sections that came out in both."""
    # One column a group; the last one stands for a default that is not there.
    columns = pd.MultiIndex.from_tuples([*groups, ("",) * len(GROUP)])
    sections = average_within_sections(scored, by=GROUP).unstack(GROUP).reindex(columns=columns)
    place = {key: i for i, key in enumerate(groups)}
    defaults = [key for key in groups if _is(key, method, setting)]
    references = [_default_of(key, defaults) for key in compared]
    value = sections.take([place[key] for key in compared], axis=1)
    reference = sections.take([place[key] if key else len(groups) for key in references], axis=1)
    tests = compare_sections(value.set_axis(compared, axis=1), reference.set_axis(compared, axis=1))
    return {key: _test_columns(*test) for key, test in zip(compared, tests, strict=True)}


def _default_of(key: Key, defaults: list[Key]) -> Key | None:
    """The default that a row is tested against: clustered like it, else as the default is clustered."""
    candidates = [
        other
        for other in defaults
        if (other[:2], other[5]) == (key[:2], key[5]) and _is_consensus(other) == _is_consensus(key)
    ]
    return min(candidates, key=lambda other: (other[4] != key[4], other[4]), default=None)


def _test_columns(test: PairedTest, apart: tuple[str, ...]) -> dict[str, Any]:
    texts = [f"compared without {', '.join(apart)}, scored on one side only"] if apart else []
    if not test.n and not apart:
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


def _order(key: Key, reference_method: str, order: Sequence[str]) -> tuple[Any, ...]:
    source, modality, method, setting, clustering, k_policy = key
    place = order.index(setting) if setting in order else len(order)
    block = (*block_order(source, modality), _is_consensus(key))
    return (*block, method != reference_method, method, place, natural(setting), clustering, k_policy)


def sample_table(results: pd.DataFrame) -> pd.DataFrame:
    """One row per block, method, setting, clustering, k policy and section, averaged over its seeds.

    Columns: block, method, setting, clustering, k_policy, sample, patient, k (median over seeds), mean_ari,
    sd_seeds (ddof 1), n_seeds, n_failed, stability, silhouette, chaos, pas. A consensus row has stability,
    the number of seeds that it combines, no sd and no silhouette.
    """
    by = [*GROUP, keys.SAMPLE, keys.PATIENT]
    rows = with_blocks(results)
    groups = rows.groupby(by).size()
    done = rows[rows[keys.STATUS] == keys.OK].groupby(by)
    table = pd.DataFrame(index=groups.index)
    table[keys.K] = done[keys.K].median()
    table["mean_ari"] = done[keys.ARI].mean()
    table["sd_seeds"] = done[keys.ARI].std(ddof=1)
    table["n_seeds"] = _n_seeds(done).reindex(groups.index).fillna(0).astype(int)
    table["n_failed"] = groups - done.size().reindex(groups.index, fill_value=0)
    for name in (keys.STABILITY, *LABEL_FREE):
        table[name] = done[name].mean()
    table.insert(0, "block", block_titles(groups.index))
    first = ["block", *_VARIANT, keys.SAMPLE, keys.PATIENT]
    table = table.reset_index().drop(columns=list(BLOCK))
    return table[[*first, *(name for name in table if name not in first)]]


def _n_seeds(groups: Any) -> pd.Series:
    """Seeds of every group of finished rows; a consensus row counts those that it combines."""
    seeds = groups[keys.SEED].nunique()
    consensus = seeds.index.get_level_values(keys.CLUSTERING) == keys.CONSENSUS
    return seeds.astype(float).mask(consensus, groups[keys.N_SEEDS].max())


def k_words(k_policy: str) -> str:
    """The k policy as tables name it."""
    return f"{k_policy} (oracle: taken from the labels)" if k_policy == "labels" else k_policy


def write_summary(study_dir: Path, summary: pd.DataFrame) -> Path:
    """Write summary.csv whole or not at all and return its path; raises SencaError."""
    path = Path(study_dir) / keys.SUMMARY_FILE
    write_whole(path, lambda temporary: summary.to_csv(temporary, index=False))
    return path


def format_summary(summary: pd.DataFrame, seeds: Sequence[int], protocol: Protocol) -> list[Table]:
    """The summary for a terminal of 80 columns: one table a block and one of its consensus, remarks below.

    `seeds` and `protocol` are the study's.
    """
    consensus = summary[keys.CLUSTERING] == keys.CONSENSUS
    parts = summary.assign(consensus=consensus).groupby(["block", "consensus"], sort=False)
    return [
        (_label_free_table if has_no_labels(rows) else _block_table)(str(block), rows, seeds, protocol)
        for (block, _), rows in parts
    ]


def has_no_labels(summary: pd.DataFrame) -> bool:
    """Whether rows of a summary were fitted and none could be compared with labels."""
    return bool(summary["mean_ari"].isna().all() and summary["mean_chaos"].notna().any())


def _block_table(block: str, rows: pd.DataFrame, seeds: Sequence[int], protocol: Protocol) -> Table:
    consensus = rows[keys.CLUSTERING].iloc[0] == keys.CONSENSUS
    spread = "stabi-\nlity" if consensus else "sd of\nseeds"
    numbers = [
        "ARI\nmean",
        "\nmedian",
        spread,
        "differ-\nence",
        "\nwins",
        "t test\np Holm",
        "Wilcoxon\np Holm",
    ]

    def cells(row: dict[Any, Any]) -> list[str]:
        compared = not row["is_default"] and row["n_paired"]
        return [
            *(number(row[name]) for name in ("mean_ari", "median_ari")),
            number(row[keys.STABILITY if consensus else "sd_seeds"]),
            "default" if row["is_default"] else number(row["mean_difference"], "+"),
            f"{row['wins']}/{row['n_paired']}" if compared else "",
            *(p_value(row[p]) for p in ("t_p_holm", "wilcoxon_p_holm")),
        ]

    title = _title(block, rows, seeds, f"k policy {k_words(protocol.k_policy)}; {protocol.words()}")
    return _filled(title, rows, numbers, cells, _remarks(rows))


def _label_free_table(block: str, rows: pd.DataFrame, seeds: Sequence[int], protocol: Protocol) -> Table:
    """Without ARI: means over patients of the scores that need no labels."""
    shown = {
        "\nk": "median_k",
        "silhou-\nette": "mean_silhouette",
        "\nCHAOS": "mean_chaos",
        "\nPAS": "mean_pas",
        "stabi-\nlity": keys.STABILITY,
    }
    # The consensus comes from no embedding, and a single seed agrees with no other.
    shown = {head: name for head, name in shown.items() if rows[name].notna().any()}

    def cells(row: dict[Any, Any]) -> list[str]:
        return ["" if pd.isna(row[name]) else _label_free_cell(name, row[name]) for name in shown.values()]

    refined = "; regions refined by their neighbours" if protocol.refined else ""
    title = _title(
        block, rows, seeds, f"k policy {k_words(protocol.k_policy)}; no labels to score against{refined}"
    )
    table = _filled(title, rows, list(shown), cells, [LABEL_FREE_NOTE])
    table.min_width = _LEAST_WIDTH
    return table


def _label_free_cell(name: str, value: float) -> str:
    return f"{value:.3g}" if name == "median_k" else number(value)


def _title(block: str, rows: pd.DataFrame, seeds: Sequence[int], scored: str) -> str:
    cohort = f"{count(rows['n_sections'].max(), 'section')} of {count(rows['n_patients'].max(), 'patient')}"
    fits = f"{cohort}, {count(len(seeds), 'seed')} ({min(seeds)} to {max(seeds)})"
    if rows[keys.CLUSTERING].iloc[0] == keys.CONSENSUS:
        fits = f"consensus of {count(rows['n_seeds'].max(), 'seed')} on {cohort}"
    return f"{block}: {fits}\n{scored}"


def _filled(
    title: str,
    rows: pd.DataFrame,
    numbers: list[str],
    cells: Callable[[dict[Any, Any]], list[str]],
    notes: list[str],
) -> Table:
    failures = rows["n_failed"].any()
    table = plain_table(title, ["\nmethod"], [*numbers, *(["fits\nfailed"] if failures else [])], notes)
    previous = None
    for row in rows.to_dict("records"):
        if previous and rows[keys.METHOD].iloc[0] == previous != row[keys.METHOD]:
            table.add_section()  # controls below the model
        previous = row[keys.METHOD]
        failed = [str(row["n_failed"] or "")] if failures else []
        table.add_row(_row_name(row), *cells(row), *failed)
    return table


def _row_name(row: dict[Any, Any]) -> str:
    return row_name(row[keys.METHOD], row[keys.SETTING], row[keys.CLUSTERING])


def _remarks(rows: pd.DataFrame) -> list[str]:
    compared = rows[~rows["is_default"]]
    names = map(_row_name, compared.to_dict("records"))
    lines = remark_lines(zip(names, compared["remark"], strict=True))
    return [*lines, HOLM_FAMILIES] if compared["wilcoxon_p"].notna().any() else lines
