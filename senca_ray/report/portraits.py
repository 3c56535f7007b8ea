"""What the page says of a section's regions to go on with: how many and why, how sure, which are small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from senca_ray import keys
from senca_ray.analysis.markers import top_markers
from senca_ray.analysis.portrait import SMALL_SHARE, Portrait
from senca_ray.methods import MODEL
from senca_ray.report.explorer import region_codes
from senca_ray.report.figures import CONTROL, INK, SECTION, STYLE, render
from senca_ray.report.maps import SectionMaps, colour_of
from senca_ray.report.view import StudyView

_GENES = 5
"""Markers of a region in the table."""
_WIDTH, _CURVE_HEIGHT, _SPREAD_HEIGHT = 4.4, 2.1, 1.05
"""Inches."""
_SCORES = {keys.ARI: "ARI", keys.SILHOUETTE: "silhouette", keys.PAS: "PAS"}
"""What the seeds of a section are compared by: the first that they have."""


def portrait_content(view: StudyView, portrait: Portrait, drawn: SectionMaps) -> dict[str, Any]:
    """What the page's template says of a portrait, besides its panel."""
    n_labels = sum(name != keys.UNDETERMINED for name, _, _ in drawn.legend)
    return {
        "title": portrait.setting if portrait.method == MODEL else portrait.method,
        "n_seeds": portrait.n_seeds,
        "k": portrait.k,
        "why": k_words(view.description["k_policy"], portrait, n_labels),
        "regions": _regions(portrait, region_codes(portrait, drawn, len(view.labels))),
        "small": [_small(portrait, region) for region in portrait.small],
        "small_share": SMALL_SHARE,
        "has_kinds": bool(portrait.kinds),
        "has_confidence": portrait.confidence is not None,
        "has_markers": len(portrait.markers) > 0,
        "curve": _curve(portrait),
        "spread": _spread(view, portrait),
    }


def k_words(policy: str, portrait: Portrait, n_labels: int) -> str:
    """Why a section has as many regions as it has, in sentences; `n_labels` without undetermined."""
    if policy == "labels":
        said = f"As many regions as labels ({n_labels}): an oracle, with new tissue nobody knows it."
    elif policy == "auto":
        said = "The number of regions was chosen without labels: where a seed's silhouette is highest."
        if portrait.n_seeds > 1:
            said += f" The consensus of {portrait.n_seeds} seeds has {portrait.k}."
    else:
        said = f"The number of regions was set beforehand ({policy})."
    if not portrait.curve:
        return said
    highest = max(portrait.curve, key=lambda k: (portrait.curve[k], -k))
    of_seed = "" if portrait.seed is None else f" of seed {portrait.seed}"
    but = "" if highest == portrait.k else f", not at {portrait.k}"
    return f"{said} The curve{of_seed} is highest at {highest}{but}."


def _regions(portrait: Portrait, codes: np.ndarray) -> list[dict[str, Any]]:
    """A line a region, the largest first."""
    genes, confidence = _genes(portrait), portrait.confidence_by_region
    lines = []
    for region, share in sorted(portrait.shares.items(), key=lambda entry: -entry[1]):
        inside = portrait.regions == region
        lines.append(
            {
                "region": region,
                "colour": colour_of(int(codes[np.argmax(inside)])),
                "kind": portrait.kinds[region] if portrait.kinds else None,
                "spots": int(inside.sum()),
                "share": share,
                "confidence": confidence.get(region),
                "genes": genes.get(region, []),
                "small": region in portrait.small,
            }
        )
    return lines


def _genes(portrait: Portrait) -> dict[int, list[str]]:
    strongest = top_markers(portrait.markers, _GENES)
    return {int(region): rows["gene"].tolist() for region, rows in strongest.groupby("region")}


def _small(portrait: Portrait, region: int) -> dict[str, Any]:
    return {
        "region": region,
        "spots": int((portrait.regions == region).sum()),
        "share": portrait.shares[region],
        "genes": _genes(portrait).get(region, []),
    }


def _curve(portrait: Portrait) -> dict[str, Any] | None:
    """The silhouette by number of regions as a drawing, with the chosen number marked."""
    if len(portrait.curve) < 2:
        return None
    ks, values = zip(*sorted(portrait.curve.items()), strict=True)
    figure = Figure(figsize=(_WIDTH, _CURVE_HEIGHT), layout="constrained")
    with rc_context(STYLE):
        axes = figure.add_subplot()
        axes.plot(ks, values, color=SECTION, marker="o", markersize=4)
        if portrait.k in portrait.curve:
            axes.axvline(portrait.k, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.plot(portrait.k, portrait.curve[portrait.k], "o", color=INK, markersize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("number of regions")
        axes.set_ylabel("mean silhouette")
        axes.spines[["top", "right"]].set_visible(False)
    return {"drawing": render(figure, "svg"), "values": list(zip(ks, values, strict=True))}


def _spread(view: StudyView, portrait: Portrait) -> dict[str, Any] | None:
    """The score of every seed of a portrait's variant as a drawing; None without one."""
    rows = seed_rows(view, portrait)
    score = next((name for name in _SCORES if name in rows and rows[name].notna().any()), None)
    if score is None:
        return None
    rows = rows.dropna(subset=[score])
    combined = rows[keys.CLUSTERING] == keys.CONSENSUS
    seeds, both = rows[~combined].sort_values(keys.SEED), rows.loc[combined, score].tolist()
    if seeds.empty:
        return None
    typical = seeds.loc[seeds[keys.TYPICAL].eq(True), score].tolist()
    figure = Figure(figsize=(_WIDTH, _SPREAD_HEIGHT), layout="constrained")
    with rc_context(STYLE):
        axes = figure.add_subplot()
        # Equal scores lie above each other.
        height = seeds.groupby(seeds[score].round(2)).cumcount()
        axes.plot(seeds[score], height, "o", color=SECTION, markersize=7, alpha=0.85)
        axes.plot(typical, [0] * len(typical), "o", markersize=11, fillstyle="none", color=INK)
        axes.plot(both, [0] * len(both), "D", color=CONTROL, markersize=7)
        axes.set_ylim(-1, max(2, height.max() + 1))
        axes.margins(x=0.12)
        axes.set_yticks([])
        axes.set_xlabel(f"{_SCORES[score]} of each seed")
        axes.spines[["top", "right", "left"]].set_visible(False)
    return {
        "drawing": render(figure, "svg"),
        "score": _SCORES[score],
        "n": len(seeds),
        "low": seeds[score].min(),
        "high": seeds[score].max(),
        "typical": next(iter(seeds.loc[seeds[keys.TYPICAL].eq(True), keys.SEED]), None),
        "consensus": both[0] if both else None,
    }


def seed_rows(view: StudyView, portrait: Portrait) -> pd.DataFrame:
    """The result rows of a portrait's method and setting on its section, under the study's own protocol."""
    rows = view.own
    # A method of a benchmark may be read with several clusterings: the reference with one of them.
    clusterings = view.summary.loc[view.summary["is_default"], keys.CLUSTERING].unique()
    return rows[
        (rows[keys.SAMPLE] == portrait.sample)
        & (rows[keys.METHOD] == portrait.method)
        & (rows[keys.SETTING] == portrait.setting)
        & rows[keys.CLUSTERING].isin(clusterings)
        & (rows[keys.STATUS] == keys.OK)
    ]
