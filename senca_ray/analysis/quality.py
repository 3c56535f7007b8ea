"""Quality of a cohort before any training: a row a section, and what is worth a look before time is paid.

The facts were measured when the sections were prepared (`data.quality`) and stand in the shards'
descriptions; limits are applied here.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from senca_ray import keys
from senca_ray.analysis.terminal import count, natural
from senca_ray.config import QualityLimits
from senca_ray.data.shards import read_meta
from senca_ray.errors import Problem, ProblemsError, SencaError

SIGNATURE, SHARED_WITH = "signature", "shared_with"
_LEAST_COMMON = 3
"""Hashes in common from which on two sections are compared: one or two may be chance."""
_MOST_NAMED = 8
"""Sections that a line about many of them names."""


@dataclass(frozen=True)
class Measure:
    """A column of the table that has a limit."""

    column: str
    title: str
    limit: str
    """Field of QualityLimits; its first three letters say whether it is the least or the most."""
    advice: str
    form: str = "{:.2f}"

    @property
    def least(self) -> bool:
        """Whether less than the limit is worth a warning, else more."""
        return self.limit.startswith("min_")

    def beyond(self, values: Any, limit: float) -> Any:
        """Whether values (an array or a column) lie beyond a limit; what is not known does not."""
        return values < limit if self.least else values > limit

    def shown(self, value: float) -> str:
        """A value in words."""
        return self.form.format(value)


MEASURES = (
    Measure("spots", "spots", "min_spots", "few for regions: leave it out or ask for few", "{:,.0f}"),
    Measure(
        "counts",
        "median counts a spot",
        "min_median_counts",
        "shallow sequencing, or bins too small (then a larger bin, or a limit for them)",
        "{:,.0f}",
    ),
    Measure(
        "genes",
        "median genes a spot",
        "min_median_genes",
        "shallow sequencing, or a panel of few genes (then a limit for it)",
        "{:,.0f}",
    ),
    Measure("mito_share", "mitochondrial share", "max_mito_share", "dying tissue: look at the section"),
    Measure(
        "sharpness",
        "image sharpness",
        "min_sharpness",
        "out of focus or a reduced copy: use a sharper image, or compare with read_images=false",
    ),
    Measure(
        "off_tissue",
        "spots off tissue",
        "max_off_tissue",
        "spots on glass, or positions for another image: look at the section, leave those spots out",
    ),
    Measure(
        "shift",
        "shift in spot distances",
        "max_shift",
        "spots and tissue outline fit better elsewhere: align positions and image again",
    ),
    Measure(
        "turned_gain",
        "gain of another orientation",
        "max_turned_gain",
        "the frame is turned: spots and tissue fit better",  # how, is said of each section
    ),
    Measure("shared_spots", "spots shared with another", "max_shared_spots", "keep one of the two"),
)

ORIENTATIONS = {
    1: "mirrored left to right",
    2: "mirrored top to bottom",
    3: "turned by 180 degrees",
    4: "with x and y swapped",
    5: "with x and y swapped, then mirrored left to right (a quarter turn)",
    6: "with x and y swapped, then mirrored top to bottom (a quarter turn)",
    7: "with x and y swapped, then turned by 180 degrees",
}
"""The orientations of `data.quality.reoriented`."""


@dataclass(frozen=True)
class QualityWarning:
    """One value of one section beyond its limit."""

    sample: str
    measure: Measure
    found: float
    limit: float
    advice: str
    """What it may mean and what to do."""

    def __str__(self) -> str:
        side = "at least" if self.measure.least else "at most"
        shown = self.measure.shown
        return (
            f"{self.sample}: {self.measure.title} {shown(self.found)}; expected {side} {shown(self.limit)}; "
            f"{self.advice}"
        )


@dataclass(frozen=True)
class SharedSpots:
    """Two sections with spots in common."""

    one: str
    other: str
    share: float
    """Of the spots of the smaller one; an estimate for sections of more than 128 spots."""


def quality_table(shards: Mapping[str, str]) -> pd.DataFrame:
    """One row a section, by sample id; `shards` maps samples to shards.

    Numbers that were not measured or cannot be told are NaN; `measured` is False for shards that were
    prepared before quality was measured. `counts` and `genes` are medians over the spots, `counts_low`,
    `counts_high`, ... their quartiles; the column SIGNATURE holds what `shared_spots` compares.
    Raises ProblemsError naming every shard that cannot be read.
    """
    rows, problems = [], []
    for sample, uri in shards.items():
        try:
            rows.append(_row(sample, read_meta(uri)))
        except SencaError as error:
            problems.append(Problem(sample, "shard", str(error)))
    if problems:
        raise ProblemsError(problems, count(len(shards), "shard"))
    table = pd.DataFrame(sorted(rows, key=lambda row: natural(row[keys.SAMPLE])))
    most: dict[str, SharedSpots] = {}
    for pair in shared_spots(dict(zip(table[keys.SAMPLE], table[SIGNATURE], strict=True))):
        for name in (pair.one, pair.other):
            most.setdefault(name, pair)  # pairs come in falling order
    compared = table[SIGNATURE].notna() & (table[SIGNATURE].notna().sum() > 1)
    shares = [most[s].share if s in most else 0.0 for s in table[keys.SAMPLE]]
    table["shared_spots"] = pd.Series(shares, dtype=float).where(compared)
    table[SHARED_WITH] = [
        "" if s not in most else most[s].other if most[s].one == s else most[s].one
        for s in table[keys.SAMPLE]
    ]
    return table


def _row(sample: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    measured = isinstance(meta.get("quality"), Mapping)
    facts: Mapping[str, Any] = meta["quality"] if measured else {}
    shift = facts.get("shift")
    row: dict[str, Any] = {
        keys.SAMPLE: sample,
        keys.PATIENT: meta[keys.PATIENT],
        "role": meta.get("role", keys.TUNING),
        keys.MODALITY: meta[keys.MODALITY],
        "simulated": bool(meta.get("simulated", meta[keys.LABEL_SOURCE] == keys.SIMULATED)),
        "measured": measured,
        "spots": meta["spots"],
        "genes_detected": _number(facts.get("genes_detected")),
    }
    for name in ("counts", "genes"):
        _, low, median, high, _ = facts.get(name) or (None,) * 5
        row |= {name: _number(median), f"{name}_low": _number(low), f"{name}_high": _number(high)}
    single = ("mito_share", "distance_px", "sharpness", "off_tissue", "tissue_share", "fit")
    row |= {name: _number(facts.get(name)) for name in single}
    x, y = shift or (math.nan, math.nan)
    gain = _number(facts.get("turned_fit")) - _number(facts.get("best_fit"))
    row |= {"shift": math.hypot(x, y), "shift_x": x, "shift_y": y, "turned_gain": gain}
    return row | {"turned": _number(facts.get("turned")), SIGNATURE: facts.get("signature")}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def shared_spots(signatures: Mapping[str, Mapping[str, Any] | None]) -> list[SharedSpots]:
    """Pairs of sections with spots in common, the largest share first, from their signatures.

    A section under two names, or cut out of another, is found so, also where spots or rare genes were left
    out. Serial sections of one block are different sections: their spots have nothing in common.
    """
    known = {name: s for name, s in signatures.items() if s is not None}
    holders: dict[int, list[str]] = defaultdict(list)
    for name, signature in known.items():
        for value in signature["sketch"]:
            holders[value].append(name)
    common = Counter(pair for names in holders.values() for pair in combinations(names, 2))
    pairs = [
        SharedSpots(one, other, _share(known[one], known[other]))
        for (one, other), n in common.items()
        if n >= _LEAST_COMMON
    ]
    return sorted(pairs, key=lambda p: (-p.share, natural(p.one), natural(p.other)))


def _share(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Spots in common by those of the smaller section.

    The smallest hashes of both together are a fair sample of the spots of both (Broder 1997).
    """
    size = max(len(one["sketch"]), len(other["sketch"]))
    a, b = set(one["sketch"]), set(other["sketch"])
    sample = sorted(a | b)[:size] if one["spots"] + other["spots"] > len(a) + len(b) else a | b
    alike = sum(value in a and value in b for value in sample) / len(sample)
    in_common = alike * (one["spots"] + other["spots"]) / (1 + alike)
    return float(min(1.0, in_common / min(one["spots"], other["spots"])))


def quality_warnings(table: pd.DataFrame, limits: QualityLimits) -> list[QualityWarning]:
    """Every value beyond its limit, by measure, then section; values that are not known are not warned of."""
    found = []
    for measure in MEASURES:
        limit = getattr(limits, measure.limit)
        if measure.column == "shared_spots":
            found += _duplicates(table, measure, limit)
            continue
        for row in table[measure.beyond(table[measure.column], limit)].to_dict("records"):
            value = float(row[measure.column])
            found.append(QualityWarning(row[keys.SAMPLE], measure, value, limit, _advice(measure, row)))
    return found


def measures_beyond(table: pd.DataFrame, limits: QualityLimits) -> list[str]:
    """Titles of the measures beyond their limits, of every row of the table."""
    beyond = {m.title: m.beyond(table[m.column], getattr(limits, m.limit)).tolist() for m in MEASURES}
    return ["; ".join(title for title in beyond if beyond[title][row]) for row in range(len(table))]


def _advice(measure: Measure, row: Mapping[Any, Any]) -> str:
    if measure.column == "turned_gain":
        return f"{measure.advice} {ORIENTATIONS[int(row['turned'])]}; correct the positions"
    return measure.advice


def _duplicates(table: pd.DataFrame, measure: Measure, limit: float) -> list[QualityWarning]:
    about = table.set_index(keys.SAMPLE)
    pairs = shared_spots(about[SIGNATURE].where(about[SIGNATURE].notna(), None).to_dict())
    found = []
    for pair in pairs:
        if pair.share > limit:
            one, other = about.loc[pair.one], about.loc[pair.other]
            if one[keys.PATIENT] != other[keys.PATIENT]:
                why = "of different patients, so that a patient left out for testing is not: scores leak"
            elif one["role"] != other["role"]:
                why = "one for tuning and one for testing: scores leak"
            else:
                why = "of one patient, which counts it twice"
            advice = f"the same section as {pair.other}, {why}; {measure.advice}"
            found.append(QualityWarning(pair.one, measure, pair.share, limit, advice))
    return found


def summary_lines(warnings: Iterable[QualityWarning]) -> list[str]:
    """A line for all sections of which the same is to be said."""
    groups: dict[tuple[str, str], list[QualityWarning]] = defaultdict(list)
    for warning in warnings:
        groups[warning.measure.column, warning.advice].append(warning)
    lines = []
    for group in groups.values():
        if len(group) == 1:
            lines.append(str(group[0]))
            continue
        measure, limit = group[0].measure, group[0].limit
        # The worst first: they are those that are named.
        worst = sorted(group, key=lambda w: w.found if measure.least else -w.found)
        named = ", ".join(f"{w.sample} {measure.shown(w.found)}" for w in worst[:_MOST_NAMED])
        more = f" and {len(group) - _MOST_NAMED} more" if len(group) > _MOST_NAMED else ""
        side = "under" if measure.least else "over"
        lines.append(
            f"{count(len(group), 'section')}: {measure.title} {side} {measure.shown(limit)}: {named}{more}; "
            f"{group[0].advice}"
        )
    return lines
