"""What the interactive panel of a section is given: spots, layers to colour them by, UMAP and dendrogram."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex

from senca_ray import keys
from senca_ray.analysis.outlines import region_outlines
from senca_ray.analysis.portrait import Portrait
from senca_ray.data.shards import Display
from senca_ray.errors import SencaError
from senca_ray.report.maps import (
    NOT_CLUSTERED,
    NOT_CLUSTERED_COLOUR,
    PALETTE,
    UNDETERMINED_COLOUR,
    SectionMaps,
    match,
)
from senca_ray.report.tree import tree_content

IMAGE, LABELS, REGIONS, CONFIDENCE, KINDS, CUT = "image", "labels", "regions", "confidence", "kinds", "cut"
"""Keys of the layers; those of other maps are 'map-0', 'map-1' and so on."""
SHARED = {"palette": PALETTE, "undetermined": UNDETERMINED_COLOUR, "not_clustered": NOT_CLUSTERED_COLOUR}
"""Colours that the panels of all sections have in common."""
UNDETERMINED = -1
"""Code of spots that have no label."""
_NONE = {NOT_CLUSTERED: "not clustered"}
_UMAP_DECIMALS = 2


@dataclass(frozen=True)
class Layer:
    """One way to colour the N spots of a section."""

    key: str
    title: str
    codes: np.ndarray | None = None
    """(N,) colour code of every spot; None for the image alone and for the cut, which the reader moves."""
    names: dict[int, str] | None = None
    """What a code stands for, in the order of the legend; None where colours have no name."""
    colours: dict[int, str] | None = None
    """Colours of the codes where they are not those of the palette."""

    @property
    def given(self) -> dict[str, Any]:
        """The layer as the page's script reads it."""
        told: dict[str, Any] = {"title": self.title}
        if self.codes is not None:
            present, counts = np.unique(self.codes, return_counts=True)
            sizes = dict(zip(present.tolist(), counts.tolist(), strict=True))
            order = [code for code in self.names or sizes if code in sizes]
            named = self.names or {}
            told["codes"] = self.codes.tolist()
            told["legend"] = [[code, named.get(code, ""), sizes[code]] for code in order]
            # Spots that no name covers are told all the same.
            told["legend"] += [[code, "", sizes[code]] for code in sizes if self.names and code not in named]
        return told | ({"colours": self.colours} if self.colours else {})


@dataclass(frozen=True)
class Explorer:
    """The panel of one section."""

    data: Markup
    """All that the script reads, as JSON that may stand in a page."""
    layers: tuple[Layer, ...]
    left: str
    right: str
    """Keys of the layers shown at first."""
    k: int
    """Regions of the cut shown at first."""
    leaves: int
    """Regions of the finest cut; 0 without a dendrogram."""
    linkage: str
    seed: int | None
    """Whose embedding UMAP and dendrogram are of."""
    has_umap: bool
    has_outlines: bool

    @property
    def has_plots(self) -> bool:
        """Whether the panel needs the plotting library."""
        return self.has_umap or self.leaves > 0


def explorer(display: Display, portrait: Portrait, drawn: SectionMaps, labels: tuple[str, ...]) -> Explorer:
    """The panel of a section that has a portrait; `labels` are those of the cohort, in the page's order."""
    codes = region_codes(portrait, drawn, len(labels))
    layers = tuple(_layers(display, portrait, drawn, labels, codes))
    present = [layer.key for layer in layers]
    tree = None if portrait.tree is None else tree_content(portrait.tree, codes, portrait.k, len(labels))
    outlines, umap = _outlines(portrait, drawn, codes), portrait.umap
    given: dict[str, Any] = {
        "size": drawn.size,
        "spacing": round(drawn.spacing, 1),
        "image": drawn.image is not None,
        "xy": np.round(drawn.xy).astype(int).ravel().tolist(),
        "spots": display.spots,
        "layers": {layer.key: layer.given for layer in layers},
        "regions": portrait.regions.tolist(),
        "confidence": None if portrait.confidence is None else _rounded(portrait.confidence * 100, 0),
        "outlines": outlines,
        "umap": None
        if portrait.umap is None
        else [_rounded(axis, _UMAP_DECIMALS) for axis in portrait.umap.T],
        "tree": None if tree is None else tree | {"curve": portrait.curve},
    }
    return Explorer(
        data=htmlsafe_json_dumps(given, separators=(",", ":"), allow_nan=False),
        layers=layers,
        left=next(key for key in (LABELS, IMAGE, *present) if key in present),
        right=REGIONS,
        k=tree["k"] if tree else 0,
        leaves=len(tree["joined"]) + 1 if tree else 0,
        linkage=portrait.tree.linkage if portrait.tree else "",
        seed=portrait.seed,
        has_umap=umap is not None,
        has_outlines=bool(outlines),
    )


def region_codes(portrait: Portrait, drawn: SectionMaps, first_free: int) -> np.ndarray:
    """Colour codes (N,) of a portrait's regions, matched to the section's labels, else to its first map."""
    reference = next((m.codes for m in drawn.maps if m.codes is not None), None)
    if reference is None:
        reference = np.full(len(portrait.regions), NOT_CLUSTERED)
    return match(portrait.regions, reference, first_free)


def _layers(
    display: Display, portrait: Portrait, drawn: SectionMaps, labels: tuple[str, ...], codes: np.ndarray
) -> Iterator[Layer]:
    names = {code: name for code, name in enumerate(labels)}
    like = {code: f"≈ {name}" for code, name in names.items()} if display.labels is not None else {}
    if drawn.image is not None:
        yield Layer(IMAGE, "H&E alone")
    by_kind = {m.kind: m for m in drawn.maps}
    if LABELS in by_kind:
        title = "Labels" + " (approximate)" * (display.label_source == keys.TRANSFERRED)
        yield Layer(LABELS, title, by_kind[LABELS].codes, names | {UNDETERMINED: keys.UNDETERMINED})
    for number, (annotator, given) in enumerate(display.annotations.items()):
        own = labels + tuple(sorted(set(given.tolist()) - {*labels, keys.UNDETERMINED}))
        code_of = {name: code for code, name in enumerate(own)} | {keys.UNDETERMINED: UNDETERMINED}
        codes_given = np.array([code_of[name] for name in given.tolist()])
        named = {code: name for name, code in code_of.items()}
        yield Layer(f"annotator-{number}", f"Labels of {annotator}", codes_given, named)
    yield Layer(REGIONS, "Regions to go on with", codes, _region_names(portrait, codes, like))
    if portrait.confidence is not None:
        yield _confidence(portrait, portrait.confidence)
    if portrait.kinds:
        kinds = portrait.kinds_of_spots(NOT_CLUSTERED)
        used = sorted(set(portrait.kinds))
        yield Layer(
            KINDS, "Kinds of region in the cohort", kinds, {kind: f"kind {kind}" for kind in used} | _NONE
        )
    if portrait.tree is not None:
        yield Layer(CUT, "Cut of the dendrogram")
    for number, one in enumerate(m for m in drawn.maps if m.codes is not None and m.kind != LABELS):
        yield Layer(f"map-{number}", one.title, one.codes, (like | _NONE) if like else None)


def _region_names(portrait: Portrait, codes: np.ndarray, like: dict[int, str]) -> dict[int, str]:
    """Names of a portrait's regions by colour code."""
    first = {region: int(codes[np.argmax(portrait.regions == region)]) for region in portrait.shares}
    return {code: f"region {region} {like.get(code, '')}".strip() for region, code in first.items()} | _NONE


def _confidence(portrait: Portrait, confidence: np.ndarray) -> Layer:
    """Share of the seeds that agree, as a number of seeds; dark where few do."""
    n = portrait.n_seeds
    agreeing = np.round(np.nan_to_num(confidence) * n).astype(int)
    codes = np.where(portrait.regions == keys.NO_REGION, NOT_CLUSTERED, agreeing)
    present = sorted({int(code) for code in codes if code >= 0}, reverse=True)
    shades = colormaps["cividis"]
    return Layer(
        CONFIDENCE,
        "Confidence: seeds that agree",
        codes,
        {code: f"{code} of {n} seeds" for code in present} | _NONE,
        {code: to_hex(shades(code / n)) for code in present} | {NOT_CLUSTERED: NOT_CLUSTERED_COLOUR},
    )


def _outlines(portrait: Portrait, drawn: SectionMaps, codes: np.ndarray) -> list[tuple[int, str]]:
    """Colour code and SVG path of every region's outline; none where spots share a place."""
    try:
        shapes = region_outlines(drawn.xy, drawn.spacing, portrait.regions)
    except SencaError:
        return []
    return [
        (int(codes[np.argmax(portrait.regions == region)]), "".join(map(_ring, _rings(shape))))
        for region, shape in shapes.items()
    ]


def _rings(shape: shapely.MultiPolygon) -> Iterator[np.ndarray]:
    for part in shape.geoms:
        for ring in (part.exterior, *part.interiors):
            corners = np.round(shapely.get_coordinates(ring)).astype(int)
            if np.ptp(corners, axis=0).all():
                yield corners


def _ring(corners: np.ndarray) -> str:
    """A closed line (M, 2) as a path; steps instead of places, which are shorter."""
    steps = np.diff(corners[:-1], axis=0)
    moves = "".join(f"{x} {y} " for x, y in steps[steps.any(axis=1)].tolist())
    return f"M{corners[0, 0]} {corners[0, 1]}l{moves.strip()}z"


def _rounded(values: np.ndarray, decimals: int) -> list[float | int | None]:
    """Numbers as JSON can hold them: none for NaN."""
    rounded = np.round(values.astype(float), decimals)
    found = [None if np.isnan(value) else value for value in rounded.tolist()]
    return found if decimals else [None if value is None else int(value) for value in found]
