"""What a benchmark ends with: methods in order of their scores, tested against a reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from senca_ray import keys
from senca_ray.analysis.blocks import BLOCK, block_order, block_title, with_blocks
from senca_ray.analysis.evidence import Evidence, evidence
from senca_ray.analysis.published import published_scores
from senca_ray.analysis.ranking import Ranking, rank_methods
from senca_ray.analysis.statistics import (
    FEW,
    average_within_patients,
    average_within_sections,
    benjamini_hochberg,
    holm,
    one_sample,
    paired_differences,
    remark,
)
from senca_ray.analysis.tables import GROUP, SUMMARY_COLUMNS, describe_groups
from senca_ray.methods import all_methods
from senca_ray.methods.protocol import Protocol

TESTS = ("t_p", "wilcoxon_p", "sign_flip_p")
"""The paired tests; each is corrected over a block's comparisons."""

BENCHMARK_COLUMNS = (
    *SUMMARY_COLUMNS,
    *("kind", "source", keys.SECONDS, keys.PEAK_MEMORY_MB, "unit", "interval_low", "interval_high"),
    *("effect_size", "effect_low", "effect_high", "sign_flip_p", "sign_flip_p_holm"),
    *(f"{test}_bh" for test in TESTS),
    "detectable",
)
HER2ST_SAMPLES = frozenset({"A1", "B1", "C1", "D1", "E1", "F1", "G2", "H1"})
"""Ids of the sections behind Table 1 of the paper."""
_HER2ST, _TABLE_1 = "HER2ST", "1"

_EXACT = "Wilcoxon or sign-flip"
"""Tests whose smallest p-value follows from the number of units alone."""

_METHOD = [keys.METHOD, keys.CLUSTERING]
Key = tuple[str, ...]


def main_rows(results: pd.DataFrame, description: dict[str, Any]) -> pd.DataFrame:
    """The rows under the benchmark's own protocol, without those that show what the ranking owes to it."""
    protocol = Protocol.read(description)
    same = (results[keys.K_POLICY] == protocol.k_policy) & (results[keys.PROTOCOL] == protocol.handling)
    return results[same]


def slow_seeds(description: dict[str, Any]) -> int:
    """Seeds of a benchmark's slow methods; those of all others where none is slow."""
    known, seeds = all_methods(), len(description["seeds"])
    names = {text.partition(":")[0] for text in description["methods"]}
    slow = any(known[name].slow for name in names & known.keys())
    return min(description["slow_seeds"], seeds) if slow else seeds


def benchmark_summary(results: pd.DataFrame, description: dict[str, Any]) -> pd.DataFrame:
    """One row per block, method and clustering, best mean ARI first, tested against the reference.

    Columns BENCHMARK_COLUMNS. Seeds are averaged within a section, and sections within a patient unless the
    study's unit is 'section'; means and tests are over these units. A difference is the row's score minus the
    reference's, over the units that both have. All comparisons of a block are one family of Holm's and of
    Benjamini and Hochberg's correction, those between consensus partitions another. `seconds` is the mean of
    a fit, `peak_memory_mb` the highest of any.
    """
    rows = with_blocks(main_rows(results, description))
    unit = description["unit"]
    scored = rows[rows[keys.STATUS] == keys.OK].dropna(subset=[keys.ARI])
    described = describe_groups(rows, scored, averaging(unit))
    costs, sections = _costs(rows), _sections(scored)
    references = _references(list(described), description)
    families: dict[Key, list[dict[str, Any]]] = {}
    for key, row in described.items():
        reference = references.get(_family(key))
        row |= costs.get(key, {}) | _facts(row) | {"unit": unit, "is_default": key == reference}
        if not row["is_default"]:
            row |= _compare(sections.get(key), sections.get(reference or ()), unit)
            families.setdefault(_family(key), []).append(row)
    for family in families.values():
        _correct(family, unit)
    ordered = sorted(described, key=lambda key: _order(key, described[key]))
    summary = pd.DataFrame([described[key] for key in ordered], columns=list(BENCHMARK_COLUMNS))
    return summary.astype({"n_paired": "Int64", "wins": "Int64"})


def _order(key: Key, row: dict[str, Any]) -> tuple[Any, ...]:
    """Blocks as everywhere, consensus rows after the others, best first, rows without a score last."""
    mean = row["mean_ari"]
    return (*block_order(key[0], key[1]), key[4] == keys.CONSENSUS, np.isnan(mean), -mean, key)


def _family(key: Key) -> Key:
    """Block, and whether it is a consensus: what is compared with one another."""
    return (*key[: len(BLOCK)], str(key[4] == keys.CONSENSUS))


def _references(groups: list[Key], description: dict[str, Any]) -> dict[Key, Key]:
    """The reference of every family: the method's named clustering, else its main one, or its consensus."""
    name, clustering = reference_of(description)
    return {_family(key): key for key in groups if key[2] == name and key[4] in (clustering, keys.CONSENSUS)}


def reference_of(description: dict[str, Any]) -> tuple[str, str]:
    """Method and clustering of the reference."""
    name, _, clustering = description["reference"].partition(":")
    used = all_methods().get(name)
    own = used.clusterings if used else ()
    return name, clustering or next(iter(own), description["clustering"])


def _facts(row: dict[str, Any]) -> dict[str, str]:
    used = all_methods().get(row[keys.METHOD])
    return {"kind": used.kind, "source": used.source} if used else {"kind": "", "source": ""}


def _costs(rows: pd.DataFrame) -> dict[Key, dict[str, Any]]:
    done = rows[rows[keys.STATUS] == keys.OK].groupby(GROUP)
    costs = done.agg({keys.SECONDS: "mean", keys.PEAK_MEMORY_MB: "max"})
    keyed = zip(map(tuple, costs.index), costs.to_dict("records"), strict=True)
    return {cast(Key, key): cast(dict[str, Any], row) for key, row in keyed}


def _sections(scored: pd.DataFrame) -> dict[Key, pd.Series]:
    """A score a section of every group, by patient and sample."""
    sections = average_within_sections(scored, by=GROUP)
    return {cast(Key, key): values.droplevel([*GROUP]) for key, values in sections.groupby(GROUP)}


def _compare(values: pd.Series | None, reference: pd.Series | None, unit: str) -> dict[str, Any]:
    """The evidence of one row against its reference."""
    if values is None or reference is None:
        whose = "there is" if values is None else "the reference has"
        return _columns(evidence(np.array([]), unit)) | {"remark": f"{whose} no score to compare"}
    found = _columns(evidence(paired_differences(values, reference, unit), unit))
    mine, theirs = (set(side.index.get_level_values(keys.SAMPLE)) for side in (values, reference))
    if apart := sorted(mine ^ theirs):
        words = f"compared without {', '.join(apart)}, scored on one side only"
        found["remark"] = "; ".join(filter(None, [words, found["remark"]]))
    return found


def _columns(found: Evidence) -> dict[str, Any]:
    named = dataclasses.asdict(found)
    return {name: value for name, value in named.items() if name in BENCHMARK_COLUMNS} | {"n_paired": found.n}


def _correct(family: Sequence[dict[str, Any]], unit: str) -> None:
    """Both corrections of all tests of one family, Holm's being what tables show; and what it cannot show."""
    n_tests = sum(not np.isnan(row["sign_flip_p"]) for row in family)
    for row in family:
        # Of fewer the evidence itself says it.
        if row["n_paired"] >= FEW:
            alone = remark(row["n_paired"], unit=unit, test=_EXACT)
            texts = [text for text in row["remark"].split("; ") if text != alone]
            texts.append(remark(row["n_paired"], n_tests, unit, _EXACT))
            row["remark"] = "; ".join(filter(None, texts))
    for test in TESTS:
        raw = [row[test] for row in family]
        for name, corrected in (("holm", holm(raw)), ("bh", benjamini_hochberg(raw))):
            for row, p in zip(family, corrected, strict=True):
                row[f"{test}_{name}"] = float(p)


def averaging(unit: str) -> Callable[..., pd.Series]:
    """How scores become one a unit."""
    return average_within_patients if unit == keys.PATIENT else average_within_sections


def unit_scores(results: pd.DataFrame, description: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Of each block with labels the scores, units x 'method (clustering)'; no consensus.

    A unit is a patient or a section, as the study says; NaN where a method has no score.
    """
    rows = with_blocks(main_rows(results, description))
    single = (rows[keys.STATUS] == keys.OK) & (rows[keys.CLUSTERING] != keys.CONSENSUS)
    return wide_scores(rows[single].dropna(subset=[keys.ARI]), description["unit"])


def wide_scores(scored: pd.DataFrame, unit: str) -> dict[str, pd.DataFrame]:
    """As `unit_scores`, of rows that all have a score and a block."""
    found = {}
    blocks = {(str(a), str(b)) for a, b in scored[list(BLOCK)].itertuples(index=False, name=None)}
    for source, modality in sorted(blocks, key=lambda block: block_order(*block)):
        rows = scored[(scored[BLOCK[0]] == source) & (scored[BLOCK[1]] == modality)]
        wide = averaging(unit)(rows, by=_METHOD).unstack(_METHOD)
        names = [f"{column[0]} ({column[1]})" for column in wide.columns]
        found[block_title(source, modality)] = wide.set_axis(names, axis=1)
    return found


def rankings(results: pd.DataFrame, description: dict[str, Any]) -> dict[str, Ranking]:
    """Friedman's and Nemenyi's tests of each block, over the methods that scored most of its units."""
    return {block: rank_methods(complete(s)) for block, s in unit_scores(results, description).items()}


def complete(scores: pd.DataFrame) -> pd.DataFrame:
    """The units that most columns cover, as far as any does, and the columns that cover them all.

    Means over other units cannot be ranked with theirs.
    """
    held = scores.notna()
    units = held[held.sum().idxmax()]
    return scores.loc[units, held[units].all()]


PUBLISHED_COLUMNS = ("block", "method", "setting", "value", "source", "n", "reference_mean", "t_p", "remark")


def published_beside(results: pd.DataFrame, description: dict[str, Any]) -> pd.DataFrame:
    """What papers print for sections of these names, beside what the reference scored on them here.

    A published mean without scores a section allows only a one-sample test of the reference's scores, `t_p`
    over `n` units. Columns PUBLISHED_COLUMNS; empty where nothing was published or the cohort is simulated.
    """
    found: list[dict[str, Any]] = []
    if description["simulated"]:
        return pd.DataFrame(found, columns=list(PUBLISHED_COLUMNS))
    rows = with_blocks(main_rows(results, description))
    scores = unit_scores(results, description)
    printed = published_scores()
    for (source, modality), part in rows.groupby(list(BLOCK)):
        block, samples = block_title(str(source), str(modality)), set(part[keys.SAMPLE])
        if source != keys.ANNOTATED or block not in scores:
            continue
        mine = reference_column(description)
        values = scores[block][mine].to_numpy(float) if mine in scores[block] else np.array([])
        means = printed[(printed["table"] == _TABLE_1) & (printed["statistic"] == "mean_ari")]
        for row in means.to_dict("records") if samples <= HER2ST_SAMPLES and len(values) > 1 else ():
            test = one_sample(values, row["value"], description["unit"])
            found.append(
                {"block": block, **_printed(row), "n": test.n, "reference_mean": test.mean}
                | {"t_p": test.t_p, "remark": test.remark}
            )
        named = printed["setting"].str.split().str[0].isin(samples)
        named |= printed["cohort"].isin([f"{_HER2ST} {s}" for s in samples])
        single = printed[named & (printed["statistic"] == "ari")]
        found += [{"block": block, **_printed(row)} for row in single.to_dict("records")]
    return pd.DataFrame(found, columns=list(PUBLISHED_COLUMNS))


def _printed(row: dict[Any, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("method", "setting", "value", "source")}


def reference_column(description: dict[str, Any]) -> str:
    """The reference as `unit_scores` names it: 'smoothed-pca (kmeans)'."""
    return "{} ({})".format(*reference_of(description))
