"""Two studies against each other, paired over the patients and sections that both scored."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.table import Table

from senca_ray import keys
from senca_ray.analysis.blocks import BLOCK, block_order, block_title, with_blocks
from senca_ray.analysis.statistics import average_within_sections, compare_sections, correct_family
from senca_ray.analysis.terminal import natural, number, p_value, plain_table, remark_lines, row_name
from senca_ray.errors import SencaError

COMPARISON_COLUMNS = (
    *("block", keys.METHOD, "setting_a", "setting_b", keys.CLUSTERING, "n_paired", "mean_a", "mean_b"),
    *("mean_difference", "wins", "t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm", "remark"),
)
_VARIANT = [keys.METHOD, keys.SETTING, keys.CLUSTERING]
Variant = tuple[str, str, str]


@dataclass(frozen=True)
class Comparison:
    """Two studies, A and B, compared."""

    name_a: str
    name_b: str
    frame: pd.DataFrame
    """One row a block and variant; columns COMPARISON_COLUMNS, differences are B - A."""
    only_a: tuple[str, ...]
    """Samples scored in A alone."""
    only_b: tuple[str, ...]
    """Samples scored in B alone."""
    reprepared: tuple[str, ...]
    """Samples scored in both whose shards differ."""
    k_policy: str
    """That of both studies."""


def compare_studies(
    results_a: pd.DataFrame,
    results_b: pd.DataFrame,
    name_a: str,
    name_b: str,
    defaults: tuple[str, str],
    method: str = "senca",
) -> Comparison:
    """Compare every method, setting and clustering that both studies hold, by ARI on the sections they share.

    `defaults` are the labels of the two default settings of `method`; where they differ, the two are compared
    with each other as well. Seeds, then sections, are averaged within the patient; means and tests are over
    the patients of sections that both studies scored, block by block. All tests of a block are one Holm
    family.
    Raises SencaError when k was chosen differently or nothing is shared.
    """
    scored_a, scored_b = _scored(results_a), _scored(results_b)
    k_policy = _k_policy(scored_a, scored_b, name_a, name_b)
    samples_a, samples_b = set(scored_a[keys.SAMPLE]), set(scored_b[keys.SAMPLE])
    if not samples_a & samples_b:
        raise SencaError(
            f"{name_a} and {name_b} share no section that both scored ({_some(samples_a)} and "
            f"{_some(samples_b)}); compare studies of the same cohort, with labels"
        )
    scored_a, scored_b = (
        frame[frame[keys.SAMPLE].isin(samples_a & samples_b)] for frame in (scored_a, scored_b)
    )
    rows: list[dict[str, Any]] = []
    for block in sorted(_blocks(scored_a) & _blocks(scored_b), key=lambda block: block_order(*block)):
        family = _compare_block(_of(scored_a, block), _of(scored_b, block), defaults, method)
        correct_family(family)
        rows += [row | {"block": block_title(*block)} for row in family]
    if not rows:
        raise SencaError(
            f"{name_a} and {name_b} share no setting on the sections they share "
            f"({_some(scored_a[keys.SETTING])} and {_some(scored_b[keys.SETTING])}), or these have labels of "
            "different sources; compare studies with a setting in common"
        )
    return Comparison(
        name_a=name_a,
        name_b=name_b,
        frame=pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS)),
        only_a=tuple(sorted(samples_a - samples_b)),
        only_b=tuple(sorted(samples_b - samples_a)),
        reprepared=_reprepared(scored_a, scored_b),
        k_policy=k_policy,
    )


def _scored(results: pd.DataFrame) -> pd.DataFrame:
    return with_blocks(results[results[keys.STATUS] == keys.OK].dropna(subset=[keys.ARI]))


def _k_policy(a: pd.DataFrame, b: pd.DataFrame, name_a: str, name_b: str) -> str:
    policies = [", ".join(sorted(set(frame[keys.K_POLICY]))) for frame in (a, b)]
    if len(a) and len(b) and policies[0] != policies[1]:
        raise SencaError(
            f"k was chosen differently: {policies[0]} in {name_a}, {policies[1]} in {name_b}; scores of "
            "different k policies cannot be compared: repeat one study with the other's --k"
        )
    return policies[0]


def _blocks(scored: pd.DataFrame) -> set[tuple[str, str]]:
    return set(scored[list(BLOCK)].itertuples(index=False, name=None))


def _of(scored: pd.DataFrame, block: tuple[str, str]) -> pd.DataFrame:
    return scored[(scored[list(BLOCK)] == block).all(axis=1)]


def _some(names: Iterable[str], most: int = 4) -> str:
    found = sorted(set(names))
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more if found else "none"


def _compare_block(
    a: pd.DataFrame, b: pd.DataFrame, defaults: tuple[str, str], method: str
) -> list[dict[str, Any]]:
    """The rows of one block, without those that have no section in common."""
    wide_a, wide_b = (average_within_sections(frame, by=_VARIANT).unstack(_VARIANT) for frame in (a, b))
    facts_a, facts_b = _facts(a), _facts(b)
    pairs = _pairs(set(facts_a), set(facts_b), defaults, method)
    if not pairs:
        return []
    wide_a, wide_b = wide_a[[of_a for of_a, _ in pairs]], wide_b[[of_b for _, of_b in pairs]]
    wide_a, wide_b = wide_a.set_axis(pairs, axis=1).align(wide_b.set_axis(pairs, axis=1), axis=0)
    both = wide_a.notna() & wide_b.notna()
    means = [wide.where(both).groupby(level=keys.PATIENT).mean().mean() for wide in (wide_a, wide_b)]
    rows = []
    for i, ((test, apart), (of_a, of_b)) in enumerate(
        zip(compare_sections(wide_b, wide_a), pairs, strict=True)
    ):
        if not test.n:
            continue
        texts = [f"compared without {', '.join(apart)}, scored on one side only"] if apart else []
        texts += [*_differences(facts_a[of_a], facts_b[of_b]), *filter(None, [test.remark])]
        rows.append(
            {
                keys.METHOD: of_a[0],
                "setting_a": of_a[1],
                "setting_b": of_b[1],
                keys.CLUSTERING: of_a[2],
                "n_paired": test.n,
                "mean_a": float(means[0].iloc[i]),
                "mean_b": float(means[1].iloc[i]),
                "mean_difference": test.mean_difference,
                "wins": test.wins,
                "t_p": test.t_p,
                "wilcoxon_p": test.wilcoxon_p,
                "remark": "; ".join(texts),
            }
        )
    return rows


def _pairs(
    variants_a: set[Variant], variants_b: set[Variant], defaults: tuple[str, str], method: str
) -> list[tuple[Variant, Variant]]:
    """Variant of A and of B to compare: the same, and the two defaults where their labels differ."""
    pairs = [(variant, variant) for variant in variants_a & variants_b]
    if defaults[0] != defaults[1]:
        pairs += [
            (variant, (method, defaults[1], variant[2]))
            for variant in variants_a
            if variant[:2] == (method, defaults[0]) and (method, defaults[1], variant[2]) in variants_b
        ]

    def order(pair: tuple[Variant, Variant]) -> tuple[Any, ...]:
        (name, setting, clustering), other = pair
        return (
            clustering == keys.CONSENSUS,
            name != method,
            name,
            pair[0] != other,
            natural(setting),
            clustering,
        )

    return sorted(pairs, key=order)


def _facts(scored: pd.DataFrame) -> dict[Variant, tuple[int, str]]:
    """Number of seeds and config of every variant."""
    groups = scored.groupby(_VARIANT)
    seeds = groups[keys.SEED].nunique().astype(float)
    combined = groups[keys.N_SEEDS].max()
    n_seeds = combined.fillna(seeds).astype(int)
    return dict(zip(n_seeds.index, zip(n_seeds, groups[keys.CONFIG].first(), strict=True), strict=True))


def _differences(a: tuple[int, str], b: tuple[int, str]) -> list[str]:
    """What differs in seeds and config, in words: two studies may mean different things by one name."""
    texts = [f"{a[0]} seeds in A, {b[0]} in B"] if a[0] != b[0] else []
    config_a, config_b = json.loads(a[1]), json.loads(b[1])
    changed = [name for name in config_a if name in config_b and config_a[name] != config_b[name]]
    if changed:
        texts.append(", ".join(f"{name} {config_a[name]} in A, {config_b[name]} in B" for name in changed))
    return texts


def _reprepared(a: pd.DataFrame, b: pd.DataFrame) -> tuple[str, ...]:
    """Samples whose rows come from different shards in the two studies."""
    shards_a, shards_b = (frame.groupby(keys.SAMPLE)[keys.FINGERPRINT].agg(set) for frame in (a, b))
    return tuple(sorted(sample for sample in shards_a.index if shards_a[sample] != shards_b.get(sample)))


def format_comparison(comparison: Comparison) -> list[Table]:
    """The comparison for a terminal of 80 columns: one table a block, remarks below it."""
    tables = []
    for block, rows in comparison.frame.groupby("block", sort=False):
        records = rows.to_dict("records")
        names = [_name(row) for row in records]
        table = plain_table(
            f"{block}: A is {comparison.name_a}, B is {comparison.name_b}\n"
            f"ARI on the sections that both scored, k policy {comparison.k_policy}",
            ["\nmethod"],
            ["mean\nA", "mean\nB", "differ-\nence", "B\nwins", "t test\np Holm", "Wilcoxon\np Holm"],
            [*remark_lines(zip(names, rows["remark"], strict=True)), *_notes(comparison)],
        )
        for name, row in zip(names, records, strict=True):
            table.add_row(
                name,
                *(number(row[mean]) for mean in ("mean_a", "mean_b")),
                number(row["mean_difference"], "+"),
                f"{row['wins']}/{row['n_paired']}",
                *(p_value(row[p]) for p in ("t_p_holm", "wilcoxon_p_holm")),
            )
        tables.append(table)
    return tables


def _name(row: dict[Any, Any]) -> str:
    name = row_name(row[keys.METHOD], row["setting_a"], row[keys.CLUSTERING])
    if row["setting_a"] != row["setting_b"]:
        name += f" against {row['setting_b']}"
    named = name.endswith(f"({keys.CONSENSUS})")
    return f"{name}, consensus" if row[keys.CLUSTERING] == keys.CONSENSUS and not named else name


def _notes(comparison: Comparison) -> list[str]:
    parts = {
        "scored in A alone": comparison.only_a,
        "scored in B alone": comparison.only_b,
        "prepared differently in A and B": comparison.reprepared,
    }
    notes = [f"{words}: {', '.join(samples)}" for words, samples in parts.items() if samples]
    return [*notes, "Holm's correction: all rows of a block are one family"]
