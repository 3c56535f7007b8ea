"""The words of the paper's figures: titles, scores below the panels, and the small print."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from senca_ray import keys
from senca_ray.analysis.benchmark import slow_seeds
from senca_ray.analysis.kind_control import read_control
from senca_ray.analysis.portrait import Portrait
from senca_ray.analysis.tables import k_words
from senca_ray.analysis.terminal import count
from senca_ray.methods import MODEL, all_methods
from senca_ray.methods.protocol import Protocol
from senca_ray.report.maps import SectionMaps, SpotMap
from senca_ray.report.spot_panels import BAR_SPOTS
from senca_ray.report.view import StudyView
from senca_ray.report.words import footing, number

MOST_MARKERS = 6
"""Regions whose strongest marker has a map."""
ARI_WORDS = "ARI: adjusted Rand index with the labels of the section."
_LONGEST_REASON = 80


def bar_words(view: StudyView, *samples: str) -> str:
    """How long the bar of these sections' maps is; in micrometres too where all have one known scale."""
    scales = {view.displays[sample].spot_distance_um for sample in samples}
    known = scales.pop() if len(scales) == 1 else None
    length = f" ({BAR_SPOTS * known:,.0f}\u00a0µm)" if known else ""
    return f"Bar: {BAR_SPOTS} spot distances{length}."


def labels_of(section: SectionMaps) -> SpotMap | None:
    """The map of a section's labels; None without labels."""
    return next((m for m in section.maps if m.kind == "labels"), None)


def title_of(spot_map: SpotMap) -> str:
    """Name of a map with what it rests on: a seed, or how many."""
    row = spot_map.row
    if row is None or spot_map.codes is None:
        return spot_map.title
    if spot_map.kind == "consensus":
        of = f"consensus of {count(int(row[keys.N_SEEDS]), 'seed')}"
        return spot_map.title.replace("consensus", of, 1)
    return f"{spot_map.title}, seed\u00a0{row[keys.SEED]}" if _seeded(spot_map) else spot_map.title


def outcome(spot_map: SpotMap) -> str:
    """What is said below a map: score and number of regions, or why there are none."""
    row = spot_map.row
    if row is None:
        return ""
    if spot_map.codes is None:
        return _failure(str(row[keys.REASON]))
    regions = count(int(row[keys.K]), "region")
    return regions if pd.isna(row[keys.ARI]) else f"ARI {_number(row[keys.ARI])}, {regions}"


def over_seeds(view: StudyView, sample: str, spot_map: SpotMap) -> str:
    """Mean and sd over the seeds of a model's setting."""
    table = view.sections
    mine = (table[keys.METHOD] == MODEL) & (table[keys.SETTING] == spot_map.title)
    [row] = table[mine & (table[keys.SAMPLE] == sample) & (table[keys.CLUSTERING] != keys.CONSENSUS)].to_dict(
        "records"
    )
    if spot_map.codes is None and spot_map.row is not None:
        return _failure(str(spot_map.row[keys.REASON]))
    seeds = count(row["n_seeds"], "seed") + (f", {row['n_failed']} failed" if row["n_failed"] else "")
    if pd.isna(row["mean_ari"]):
        return seeds
    spread = "" if pd.isna(row["sd_seeds"]) else f" ± {_number(row['sd_seeds'])}"
    return f"ARI {_number(row['mean_ari'])}{spread}, {seeds}"


def marked(rows: pd.DataFrame) -> str:
    """Which regions a gene marks, and how well."""
    marked = zip(rows["region"], rows["effect"], strict=True)
    return "; ".join(f"region {region}, effect {_number(effect)}" for region, effect in marked)


def seed_words(shown: Sequence[SpotMap], view: StudyView) -> str:
    """Which seeds there are, and which one a map shows."""
    seeds = view.description["seeds"]
    if len(seeds) == 1:
        return f"Seed {seeds[0]}."
    slow = ""
    if view.description["kind"] == "benchmark" and slow_seeds(view.description) < len(seeds):
        slow = f", of slow methods {slow_seeds(view.description)}"
    typical = all(m.row is not None and m.row[keys.TYPICAL] in (True,) for m in shown if _seeded(m))
    which = "the one shown agrees best with the others" if typical else "the first is shown"
    return f"{count(len(seeds), 'seed')} ({min(seeds)} to {max(seeds)}{slow}); {which}."


def portrait_words(portrait: Portrait) -> str:
    """What a portrait's regions rest on."""
    if portrait.n_seeds > 1:
        return f"Regions: consensus of {portrait.n_seeds} seeds of {fitted(portrait)}."
    seed = "one seed" if portrait.seed is None else f"seed {portrait.seed}"
    return f"Regions: {seed} of {fitted(portrait)}."


def fitted(portrait: Portrait) -> str:
    """Method and setting."""
    plain = portrait.setting in (keys.FIXED, keys.DEFAULT)
    return portrait.method if plain else f"{portrait.method} {portrait.setting}"


def marker_words(portrait: Portrait, strongest: pd.DataFrame) -> str:
    """Which genes have a map, and what their effect is; `strongest` has a row a region with a marker."""
    n = len(strongest)
    most = f" (of {MOST_MARKERS} of {n} regions, those where it is highest)" if n > MOST_MARKERS else ""
    none = [str(region) for region in portrait.shares if region not in set(strongest["region"])]
    without = f" Without such a gene: region{'s' * (len(none) > 1)} {', '.join(none)}." if none else ""
    return (
        f"Genes: of each region the one of highest effect among those significantly higher inside{most}, "
        "the region outlined. Effect: rank-biserial correlation, 1 where every spot inside shows more of the "
        f"gene than every spot outside.{without}"
    )


def colour_words(section: SectionMaps) -> str:
    """What the colours of regions mean."""
    to = "the labels" if labels_of(section) else "the regions of the first map of Figure 2"
    return f"Colours of regions: matched one to one to {to} by largest overlap (Hungarian method)."


def control_words(view: StudyView) -> str:
    """How far the matching of regions can be believed."""
    control = read_control(view.folder)
    if control is None:
        return ""
    said = f"{control.recurring} of {control.regions} regions are of a kind that recurs"
    if control.alike is None or control.shuffled is None:
        return f"{said}."
    alike, shuffled = _number(control.alike), _number(control.shuffled)
    return f"{said}; likeness on held-out spots {alike}, of shuffled kinds {shuffled} (p = {control.p:.3g})."


def rests_on(view: StudyView, sample: str) -> str:
    """Section, patient, spots and protocol; of a search also whether its scores are test scores."""
    display = view.displays[sample]
    where = f"Section {sample} of patient {display.patient}, {count(len(display.xy), 'spot')}"
    protocol = Protocol.read(view.description)
    chosen = f" {footing(view)}" if view.description["kind"] == "search" else ""
    return f"{where}; k policy {k_words(protocol.k_policy)}; {protocol.words()}.{chosen}"


def foot(view: StudyView, words: Sequence[str]) -> str:
    """Small print; of a simulated cohort this comes first."""
    simulated = "SIMULATED cohort: shows the mechanics, says nothing about tissue."
    return " ".join([*([simulated] if view.description["simulated"] else []), *filter(None, words)])


def _seeded(spot_map: SpotMap) -> bool:
    """Whether the seed makes a difference."""
    method = None if spot_map.row is None else all_methods().get(spot_map.row[keys.METHOD])
    return spot_map.kind != "consensus" and (method is None or method.seeded)


def _failure(reason: str) -> str:
    short = reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…"
    return f"no regions: {short}"


def _number(value: float) -> str:
    return number(value, "z.3f")  # z: no sign for what rounds to nothing
