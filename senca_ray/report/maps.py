"""Spot maps of a section: its labels and its regions, as transparent overlays for its H&E image.

The image is kept once and every map is a small vector drawing for it, so a page with many maps stays small,
prints sharply, and lets a reader look through the spots at the tissue.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment

from senca_ray import keys
from senca_ray.analysis.blocks import block_title
from senca_ray.analysis.outlines import spot_spacing
from senca_ray.analysis.trials import typical_row
from senca_ray.data.shards import Display
from senca_ray.report.benchmark import REFERENCE, featured, method_name
from senca_ray.report.view import VARIANT, StudyView, is_consensus, is_model

PALETTE = (
    *("#0072B2", "#E69F00", "#009E73", "#F0E442", "#D55E00", "#56B4E9", "#CC79A7", "#000000"),
    *("#332288", "#999933", "#882255", "#44AA99", "#AA4499", "#DDCC77"),
)
"""Safe for colour-blind eyes: Okabe and Ito's, then those of Tol's muted scheme that differ from them."""
UNDETERMINED_COLOUR, NOT_CLUSTERED_COLOUR = "#C4C4C4", "#EDEDED"
_UNDETERMINED, NOT_CLUSTERED = -1, -2
"""Codes of spots that have no label, and of those that a protocol leaves out of clustering."""

_SIDE, _PICTURE_PIXELS, _IMAGE_PIXELS = 1000, 480, 720
"""Longer side of a drawing in its own units, of a picture of it, and of the H&E image on the page."""
_MARGIN, _DISC, _RIM = 2.0, 0.8, 0.06
"""Tissue around the outermost spots, a spot's diameter and the width of its rim, all in spot distances."""


@dataclass(frozen=True)
class SpotMap:
    """One map of a section: its labels, or the regions that one variant found with one seed."""

    title: str
    kind: str
    """'labels', 'model', 'consensus' (of the seeds of a model's setting) or 'control'; of a benchmark
    'labels', 'reference', 'consensus' or the kind of another method."""
    codes: np.ndarray | None
    """(N,) colour code of every spot; None where there are no regions."""
    row: pd.Series | None
    """The result row shown (or the failed one); None for labels."""

    @property
    def details(self) -> str:
        """What is known of the map, in words; empty for labels."""
        if self.row is None:
            return ""
        if self.codes is None:
            return f"no regions: {self.row[keys.REASON]}"
        known = f"{self.row[keys.K]:.0f} regions, "
        if self.kind == "consensus":
            known += f"{self.row[keys.N_SEEDS]:.0f} seeds combined, stability {self.row[keys.STABILITY]:.3f}"
        else:
            known += f"seed {self.row[keys.SEED]}"
        return known if pd.isna(self.row[keys.ARI]) else f"ARI {self.row[keys.ARI]:.3f}, {known}"


@dataclass(frozen=True)
class SectionMaps:
    """Everything drawn of one section of N spots."""

    image: bytes | None
    """JPEG of the H&E image around the spots; None without an image."""
    size: tuple[int, int]
    """Width and height of a drawing; the image has the same proportions."""
    xy: np.ndarray
    """(N, 2) positions in the drawing."""
    spacing: float
    """Distance of neighbouring spots in the drawing."""
    maps: tuple[SpotMap, ...]
    legend: tuple[tuple[str, str, int], ...]
    """Label, colour and number of spots."""
    not_clustered: int
    """Spots that no map of regions gives a region to, by the study's protocol."""
    extra: tuple[str, ...]
    """Colours of regions that match no label."""


def section_maps(view: StudyView, sample: str) -> SectionMaps:
    """Lay out the labels of a section and the regions of every variant, in matched colours."""
    display = view.displays[sample]
    codes = {name: code for code, name in enumerate(view.labels)}
    reference, maps, legend = None, [], []
    if display.labels is not None:
        reference = np.array([codes.get(str(x), _UNDETERMINED) for x in display.labels])
        maps.append(SpotMap("labels", "labels", reference, None))
        named = [*codes.items(), (keys.UNDETERMINED, _UNDETERMINED)]
        legend = [(name, colour_of(code), int((reference == code).sum())) for name, code in named]
    for title, kind, row in _shown(view, sample):
        matched = None
        if row[keys.STATUS] == keys.OK:
            regions = np.asarray(row[keys.REGIONS])
            # Without labels the first map, the default setting, lends its colours to the others: colours
            # that stand for no label of another section.
            if reference is None:
                reference = np.where(regions >= 0, regions + len(codes), NOT_CLUSTERED)
            matched = match(regions, reference, first_free=len(codes))
        maps.append(SpotMap(title, kind, matched, row))
    used = {int(code) for m in maps if m.codes is not None for code in np.unique(m.codes)}
    image, xy, spacing, size = _layout(display)
    return SectionMaps(
        image=image,
        size=size,
        xy=xy,
        spacing=spacing,
        maps=tuple(maps),
        legend=tuple(entry for entry in legend if entry[2]),
        not_clustered=max(
            (int((m.codes == NOT_CLUSTERED).sum()) for m in maps if m.codes is not None), default=0
        ),
        extra=tuple(colour_of(code) for code in sorted(used) if code >= len(codes)),
    )


def colour_of(code: int) -> str:
    """The colour of a label or region code; greys for spots that have none."""
    greys = {_UNDETERMINED: UNDETERMINED_COLOUR, NOT_CLUSTERED: NOT_CLUSTERED_COLOUR}
    return greys.get(code) or PALETTE[code % len(PALETTE)]


def match(regions: np.ndarray, reference: np.ndarray, first_free: int) -> np.ndarray:
    """Colour codes (N,) of regions (N,), each region matched to at most one code of `reference` (N,).

    One-to-one with the largest overlap (Hungarian method); negative codes are not matched. Regions that
    match nothing get codes from `first_free` on, or from above the reference's where that is higher; spots
    without a region (keys.NO_REGION) get NOT_CLUSTERED.
    """
    result = np.full(len(regions), NOT_CLUSTERED)
    clustered = regions != keys.NO_REGION
    names, inverse = np.unique(regions[clustered], return_inverse=True)
    reference = reference[clustered]
    codes = np.unique(reference[reference >= 0])
    overlap = np.array(
        [[((inverse == i) & (reference == c)).sum() for c in codes] for i in range(len(names))]
    )
    chosen = np.full(len(names), _UNDETERMINED)
    if len(codes):
        for i, j in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            chosen[i] = codes[j] if overlap[i, j] else _UNDETERMINED
    unmatched = chosen == _UNDETERMINED
    start = max(first_free, int(codes.max()) + 1 if len(codes) else 0)
    chosen[unmatched] = start + np.arange(unmatched.sum())
    result[clustered] = chosen[inverse]
    return result


def overlay(section: SectionMaps, codes: np.ndarray) -> str:
    """A map as SVG with transparent ground: a disc a spot, coloured by `codes` (N,)."""
    width, height = section.size
    dots, rims, discs = [], [], []
    for code in np.unique(codes).tolist():
        places = "".join(f"M{x} {y}h0" for x, y in np.round(section.xy[codes == code]).astype(int).tolist())
        dots.append(f'<path id="c{code}" d="{places}"/>')
        rims.append(f'<use href="#c{code}" stroke="{_rim(section, code)}"/>')
        discs.append(f'<use href="#c{code}" stroke="{colour_of(code)}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" stroke-linecap="round">'
        f"<defs>{''.join(dots)}</defs>"
        f'<g stroke-width="{(_DISC + _RIM) * section.spacing:.1f}">{"".join(rims)}</g>'
        f'<g stroke-width="{_DISC * section.spacing:.1f}">{"".join(discs)}</g></svg>'
    )


def picture(section: SectionMaps, codes: np.ndarray | None) -> Image.Image:
    """A map on its H&E image, or on white, as an RGB picture; without `codes` the image alone."""
    # Drawn four times as large and reduced: Pillow draws without smoothing.
    large = 4 * _PICTURE_PIXELS / _SIDE
    width, height = (round(edge * large) for edge in section.size)
    result = Image.new("RGB", (width, height), "white")
    if section.image is not None:
        result = Image.open(io.BytesIO(section.image)).resize((width, height))
    if codes is not None:
        draw, radius = ImageDraw.Draw(result), _DISC * section.spacing * large / 2
        for (x, y), code in zip((section.xy * large).tolist(), codes.tolist(), strict=True):
            draw.circle((x, y), radius * (1 + _RIM / _DISC), _rim(section, code))
            draw.circle((x, y), radius, colour_of(code))
    return result.resize((width // 4, height // 4), Image.Resampling.BOX)


def _rim(section: SectionMaps, code: int) -> str:
    """Codes beyond the palette repeat its colours with a dark rim."""
    if code >= len(PALETTE):
        return "#000000"
    return "#666666" if section.image is None else "#FFFFFF"


def _shown(view: StudyView, sample: str) -> Iterator[tuple[str, str, pd.Series]]:
    """Title, kind and row of every variant of a section, the default setting first.

    Of the consensus partitions only one is shown, beside its single seed: of a search the one of the chosen
    setting, else of the default. Of a benchmark see `featured`.
    """
    rows = view.drawn(sample)
    if view.description["kind"] == "benchmark":
        yield from _featured(view, sample, rows)
        return
    groups = dict(iter(rows.groupby(list(VARIANT))))
    variants = view.variants(rows)
    settings = [v[1] for v in variants if is_model(v)]
    featured = settings[-1] if view.selection and settings else view.default
    combined = next((v for v in variants if is_model(v) and is_consensus(v) and v[1] == featured), None)
    single = [v for v in variants if not is_consensus(v)]
    for variant in sorted(single, key=lambda v: not (is_model(v) and v[1] == view.default)):
        method, setting = variant[:2]
        title, kind = (setting, "model") if is_model(variant) else (method, "control")
        yield title, kind, _typical(groups[variant])
        if is_model(variant) and setting == featured and combined:
            row = groups[combined].iloc[0]
            if row[keys.STATUS] == keys.OK:
                yield f"consensus, {setting}", "consensus", row


def _featured(view: StudyView, sample: str, rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.Series]]:
    """The methods of a benchmark that maps show, those run on this section; the reference's consensus too."""
    display = view.displays[sample]
    groups = dict(iter(rows.groupby([keys.METHOD, keys.CLUSTERING])))
    for shown in featured(view.summary, block_title(display.label_source, display.modality)):
        method, own = shown[keys.METHOD], groups.get((shown[keys.METHOD], shown[keys.CLUSTERING]))
        if own is None:
            continue
        yield method_name(shown), REFERENCE if shown["is_default"] else shown["kind"], _typical(own)
        combined = groups.get((method, keys.CONSENSUS))
        if shown["is_default"] and combined is not None and combined.iloc[0][keys.STATUS] == keys.OK:
            yield f"consensus, {method}", "consensus", combined.iloc[0]


def _typical(rows: pd.DataFrame) -> pd.Series:
    """The row of the typical seed, or one that failed where all did."""
    found = typical_row(rows)
    return rows.iloc[0] if found is None else found


def _layout(display: Display) -> tuple[bytes | None, np.ndarray, float, tuple[int, int]]:
    """Image (JPEG), spot positions (N, 2), their spacing and the size of a drawing, cut to the spots."""
    xy = display.xy if display.thumbnail_xy is None else display.thumbnail_xy
    spacing = spot_spacing(xy)
    low, high = xy.min(axis=0) - _MARGIN * spacing, xy.max(axis=0) + _MARGIN * spacing
    image = None
    if display.thumbnail is not None:
        with Image.open(io.BytesIO(display.thumbnail)) as whole:
            low, high = np.maximum(np.floor(low), 0), np.minimum(np.ceil(high), whole.size)
            part = whole.convert("RGB").crop((*low.astype(int).tolist(), *high.astype(int).tolist()))
        part.thumbnail((_IMAGE_PIXELS, _IMAGE_PIXELS))
        buffer = io.BytesIO()
        part.save(buffer, "JPEG", quality=80)
        image = buffer.getvalue()
    scale = _SIDE / float((high - low).max())
    width, height = np.round((high - low) * scale).astype(int).tolist()
    return image, (xy - low) * scale, spacing * scale, (width, height)
