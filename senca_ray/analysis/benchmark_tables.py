"""A benchmark's tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.table import Table

from senca_ray import keys
from senca_ray.analysis.benchmark import main_rows, published_beside, rankings, slow_seeds
from senca_ray.analysis.blocks import BLOCK, block_title, with_blocks
from senca_ray.analysis.ranking import Ranking
from senca_ray.analysis.sensitivity import AS_REPORTED, sensitivity
from senca_ray.analysis.tables import k_words, sample_table
from senca_ray.analysis.terminal import count, number, p_value, plain_table, remark_lines
from senca_ray.methods.protocol import Protocol

_SECTIONS_WIDE = 8
"""Columns of sections that fit beside a method's name."""
FAMILIES = (
    "Holm's correction over all comparisons of a table; summary.csv also holds Benjamini and Hochberg's, the "
    "t-test, effect sizes with intervals"
)
INTERVAL = (
    "interval: 95 %, bootstrap of the mean difference; detectable: the smallest difference that so few "
    "{}s could have shown (80 % power)"
)
"""What the columns of the tests mean; to be filled with the unit's name."""


def format_benchmark(
    summary: pd.DataFrame, results: pd.DataFrame, description: dict[str, Any]
) -> Iterator[Table]:
    """All tables of a benchmark: scores and tests of each block, sections, sensitivity, published scores."""
    ranked = rankings(results, description)
    single = summary[summary[keys.CLUSTERING] != keys.CONSENSUS]
    for block, rows in single.groupby("block", sort=False):
        yield _scores(str(block), rows, results, description)
        if rows["n_paired"].fillna(0).gt(0).any():
            yield _tests(str(block), rows, ranked.get(str(block)), description)
    consensus = summary[summary[keys.CLUSTERING] == keys.CONSENSUS]
    for block, rows in consensus.groupby("block", sort=False):
        yield _consensus(str(block), rows, description)
    yield from _sections(results, description)
    yield from _sensitivity(sensitivity(results, description), description)
    yield from _published(results, description)


def method_name(row: Any) -> str:
    """'smoothed-pca (kmeans)'."""
    return f"{row[keys.METHOD]} ({row[keys.CLUSTERING]})"


def _heading(block: str, rows: pd.DataFrame, description: dict[str, Any]) -> str:
    protocol, seeds = Protocol.read(description), description["seeds"]
    cohort = f"{count(rows['n_sections'].max(), 'section')} of {count(rows['n_patients'].max(), 'patient')}"
    fewer = slow_seeds(description)
    slow = f", slow methods {fewer}" if fewer < len(seeds) else ""
    return (
        f"{block}: {cohort}, {count(len(seeds), 'seed')} ({min(seeds)} to {max(seeds)}{slow})\n"
        f"k policy {k_words(protocol.k_policy)}; {protocol.words()}"
    )


def _scores(block: str, rows: pd.DataFrame, results: pd.DataFrame, description: dict[str, Any]) -> Table:
    failures = bool(rows["n_failed"].any())
    table = plain_table(
        _heading(block, rows, description),
        ["\nmethod", "\nkind"],
        ["ARI\nmean", "\nmedian", "sd of\nseeds", "seconds\na fit", "peak\nMB", *["fits\nfailed"] * failures],
        _reasons(block, rows, with_blocks(main_rows(results, description))),
    )
    for row in rows.to_dict("records"):
        reference = " *" if row["is_default"] else ""
        table.add_row(
            method_name(row) + reference,
            row["kind"],
            *(number(row[name]) for name in ("mean_ari", "median_ari", "sd_seeds")),
            "" if pd.isna(row[keys.SECONDS]) else f"{row[keys.SECONDS]:.2f}",
            "" if pd.isna(row[keys.PEAK_MEMORY_MB]) else f"{row[keys.PEAK_MEMORY_MB]:.0f}",
            *([str(row["n_failed"] or "")] if failures else []),
        )
    return table


def _reasons(block: str, rows: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    """Why methods of a block have no score, each reason once."""
    titles = results[list(BLOCK)].apply(lambda row: block_title(*row), axis=1)
    failed = results[(results[keys.STATUS] == keys.FAILED) & (titles == block)]
    failed = failed[failed[keys.CLUSTERING] != keys.CONSENSUS]
    reasons = failed.groupby([keys.METHOD, keys.REASON], sort=False).size().reset_index()
    lines = [f"{row[keys.METHOD]}: {row[keys.REASON]}" for row in reasons.to_dict("records")]
    return ["* the reference", *lines] if rows["is_default"].any() else lines


def _tests(block: str, rows: pd.DataFrame, ranking: Ranking | None, description: dict[str, Any]) -> Table:
    unit = description["unit"]
    reference = next(
        (method_name(row) for row in rows[rows["is_default"]].to_dict("records")), "the reference"
    )
    compared = rows[~rows["is_default"]]
    records = compared.to_dict("records")
    names = [method_name(row) for row in records]
    table = plain_table(
        f"{block}: against {reference}, paired over {count(int(compared['n_paired'].max()), unit)}",
        ["\nmethod"],
        [
            "differ-\nence",
            "\n95 % interval",
            "higher\nin",
            "detect-\nable",
            "sign flip\np Holm",
            "Wilcoxon\np Holm",
        ],
        [
            *remark_lines(zip(names, compared["remark"], strict=True)),
            INTERVAL.format(unit),
            FAMILIES,
            *_friedman(ranking, unit),
        ],
    )
    for name, row in zip(names, records, strict=True):
        if not row["n_paired"]:
            continue
        interval = [row["interval_low"], row["interval_high"]]
        table.add_row(
            name,
            number(row["mean_difference"], "+"),
            "" if pd.isna(interval).any() else "{:+.3f} to {:+.3f}".format(*interval),
            f"{row['wins']}/{row['n_paired']}",
            number(row["detectable"]),
            *(p_value(row[p]) for p in ("sign_flip_p_holm", "wilcoxon_p_holm")),
        )
    return table


def _friedman(ranking: Ranking | None, unit: str) -> list[str]:
    if ranking is None:
        return []
    texts = [ranking.remark] if ranking.remark else []
    if not pd.isna(ranking.friedman_p):
        shown = "< 0.001" if ranking.friedman_p < 0.001 else f"= {ranking.friedman_p:.3f}"
        texts.insert(
            0,
            f"Friedman over {len(ranking.methods)} methods and {count(ranking.n, unit)}: p {shown}; Nemenyi: "
            f"mean ranks that differ by {ranking.critical_difference:.1f} differ at 0.05",
        )
    return texts


def _consensus(block: str, rows: pd.DataFrame, description: dict[str, Any]) -> Table:
    reference = next(
        (row[keys.METHOD] for row in rows[rows["is_default"]].to_dict("records")), "the reference"
    )
    table = plain_table(
        f"{block}: consensus of each method's seeds, against that of {reference}",
        ["\nmethod"],
        ["ARI\nmean", "\nmedian", "stabi-\nlity", "differ-\nence", "higher\nin", "Wilcoxon\np Holm"],
    )
    for row in rows.to_dict("records"):
        compared = not row["is_default"] and row["n_paired"]
        table.add_row(
            row[keys.METHOD],
            *(number(row[name]) for name in ("mean_ari", "median_ari", keys.STABILITY)),
            "reference" if row["is_default"] else number(row["mean_difference"], "+"),
            f"{row['wins']}/{row['n_paired']}" if compared else "",
            p_value(row["wilcoxon_p_holm"]) if compared else "",
        )
    return table


def _sections(results: pd.DataFrame, description: dict[str, Any]) -> Iterator[Table]:
    """ARI of every section, mean over seeds."""
    sections = sample_table(main_rows(results, description))
    sections = sections[sections[keys.CLUSTERING] != keys.CONSENSUS].dropna(subset=["mean_ari"])
    for block, rows in sections.groupby("block", sort=False):
        samples = sorted(rows[keys.SAMPLE].unique())
        wide = rows.pivot(index=[keys.METHOD, keys.CLUSTERING], columns=keys.SAMPLE, values="mean_ari")
        wide = wide.loc[wide.mean(axis=1).sort_values(ascending=False, kind="stable").index]
        for start in range(0, len(samples), _SECTIONS_WIDE):
            part = samples[start : start + _SECTIONS_WIDE]
            table = plain_table(f"{block}: ARI by section, mean over seeds", ["method"], part)
            for key, scores in zip(wide.index, wide[part].to_numpy(), strict=True):
                table.add_row(f"{key[0]} ({key[1]})", *map(number, scores))
            yield table


def _sensitivity(frame: pd.DataFrame, description: dict[str, Any]) -> Iterator[Table]:
    reference = description["reference"]
    for block, rows in frame.groupby("block", sort=False):
        table = plain_table(
            f"{block}: what the ranking owes to the protocol",
            ["\nread with", "\nbest"],
            ["agree-\nment", f"rank of\n{reference}", f"ARI of\n{reference}"],
            [
                "agreement: Kendall's tau-b with the ranking as reported, over the methods read both ways",
                *(
                    f"{row['reading']}: {row['moved']} from place {row['moved_from']} to {row['moved_to']}"
                    for row in rows.to_dict("records")
                    if row["moved"] and row["reading"] != AS_REPORTED
                ),
            ],
        )
        for row in rows.to_dict("records"):
            rank = (
                "" if pd.isna(row["reference_rank"]) else f"{row['reference_rank']:.0f} of {row['n_methods']}"
            )
            table.add_row(
                row["reading"],
                f"{row['best']} {number(row['best_mean'])}",
                number(row["agreement"]),
                rank,
                number(row["reference_mean"]),
            )
        yield table


def _published(results: pd.DataFrame, description: dict[str, Any]) -> Iterator[Table]:
    """What papers print for these very sections, beside nothing that was measured here."""
    for block, rows in published_beside(results, description).groupby("block", sort=False):
        table = plain_table(
            f"{block}: what papers print for sections of these names (other protocols, other runs)",
            ["\nmethod", "\nsource"],
            ["\nARI", f"{description['reference']}\nhere", "one-sample\nt test p"],
            [
                *remark_lines((row["method"], row["remark"]) for row in rows.fillna("").to_dict("records")),
                "never mixed with what was measured here; p without correction",
            ],
        )
        for row in rows.to_dict("records"):
            table.add_row(
                " ".join(filter(None, [row["method"], row["setting"]])),
                row["source"],
                number(row["value"]),
                number(row["reference_mean"]),
                p_value(row["t_p"]),
            )
        yield table
