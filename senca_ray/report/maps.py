"""Spot maps of a section: its labels and its regions, as transparent overlays for its H&E image.

The image is kept once and every map is an overlay for it, so a page with many maps stays small and a reader
can look through the spots at the tissue.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from PIL import Image
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from senca_ray import keys
from senca_ray.data.shards import Display
from senca_ray.report.view import VARIANT, StudyView, is_model

PALETTE = (
    *("#0072B2", "#E69F00", "#009E73", "#F0E442", "#D55E00", "#56B4E9", "#CC79A7", "#000000"),
    *("#332288", "#999933", "#882255", "#44AA99", "#AA4499", "#DDCC77"),
)
"""Okabe and Ito's colours, then those of Tol's muted scheme that differ from them: safe for colour-blind eyes."""
UNDETERMINED_COLOUR = "#C4C4C4"
_UNDETERMINED = -1

_OVERLAY_PIXELS, _IMAGE_PIXELS = 480, 720
"""Longer side of an overlay and of the H&E image below it."""
_MARGIN, _DISC = 2.0, 0.8
"""Tissue shown around the outermost spots, and a spot's diameter, both in spot distances."""


@dataclass(frozen=True)
class SpotMap:
    """One picture of a section: its labels, or the regions that one variant found with one seed."""

    title: str
    kind: str
    """'labels', 'model' or 'control'."""
    overlay: bytes | None
    """PNG with transparent ground; None where there are no regions."""
    row: pd.Series | None
    """The result row shown (or the failed one); None for labels."""


@dataclass(frozen=True)
class SectionMaps:
    """Everything drawn of one section."""

    image: bytes | None
    """JPEG of the H&E image around the spots; None without an image."""
    size: tuple[int, int]
    """Width and height of an overlay in pixels; the image has the same proportions."""
    maps: tuple[SpotMap, ...]
    legend: tuple[tuple[str, str, int], ...]
    """Label, colour and number of spots."""
    extra: tuple[str, ...]
    """Colours of regions that match no label."""


@dataclass(frozen=True)
class _Frame:
    """Where the spots lie in a picture."""

    xy: np.ndarray
    """(N, 2) in pixels of the overlay."""
    spacing: float
    """Pixels between neighbouring spots."""
    size: tuple[int, int]
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in the thumbnail's pixels or in spot distances."""


def section_maps(view: StudyView, sample: str) -> SectionMaps:
    """Draw the labels of a section and the regions of every variant, in matched colours."""
    display = view.displays[sample]
    frame = _frame(display)
    labels = view.labels
    codes = {name: i for i, name in enumerate(labels)}
    reference, maps, legend = None, [], []
    if display.labels is not None:
        reference = np.array([codes.get(str(x), _UNDETERMINED) for x in display.labels])
        maps.append(SpotMap("labels", "labels", _overlay(frame, reference, display), None))
        legend = [(n, colour_of(c), int((reference == c).sum())) for n, c in codes.items()]
        legend.append((keys.UNDETERMINED, UNDETERMINED_COLOUR, int((reference == _UNDETERMINED).sum())))
    used: set[int] = set()
    for title, kind, row in _shown(view, sample):
        overlay = None
        if row[keys.STATUS] == keys.OK:
            regions = np.asarray(row[keys.REGIONS])
            # Without labels the first map shown, the default setting, lends its colours to the others.
            reference = regions if reference is None else reference
            colours = match(regions, reference, first_free=len(labels))
            used.update(colours.tolist())
            overlay = _overlay(frame, colours, display)
        maps.append(SpotMap(title, kind, overlay, row))
    return SectionMaps(
        image=_image(display, frame),
        size=frame.size,
        maps=tuple(maps),
        legend=tuple(entry for entry in legend if entry[2]),
        extra=tuple(colour_of(c) for c in sorted(used) if c >= len(labels)),
    )


def colour_of(code: int) -> str:
    """The colour of a label or region code; light grey for undetermined (-1)."""
    return UNDETERMINED_COLOUR if code == _UNDETERMINED else PALETTE[code % len(PALETTE)]


def match(regions: np.ndarray, reference: np.ndarray, first_free: int) -> np.ndarray:
    """Colour codes (N,) of regions (N,), each region matched to at most one code of `reference` (N,).

    One-to-one with the largest overlap (Hungarian method); negative codes are not matched. Regions that
    match nothing get codes from `first_free` on, or from above the reference's where that is higher.
    """
    names, inverse = np.unique(regions, return_inverse=True)
    codes = np.unique(reference[reference >= 0])
    overlap = np.array([[((inverse == i) & (reference == c)).sum() for c in codes] for i in range(len(names))])
    chosen = np.full(len(names), _UNDETERMINED)
    if len(codes):
        for i, j in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            chosen[i] = codes[j] if overlap[i, j] else _UNDETERMINED
    unmatched = chosen == _UNDETERMINED
    start = max(first_free, int(codes.max()) + 1 if len(codes) else 0)
    chosen[unmatched] = start + np.arange(unmatched.sum())
    return chosen[inverse]


def composite(section: SectionMaps, overlay: bytes) -> Image.Image:
    """An overlay laid on the section's H&E image, or on white."""
    below = Image.new("RGB", section.size, "white")
    if section.image is not None:
        below = Image.open(io.BytesIO(section.image)).resize(section.size)
    result = below.convert("RGBA")
    result.alpha_composite(Image.open(io.BytesIO(overlay)).convert("RGBA"))
    return result.convert("RGB")


def _shown(view: StudyView, sample: str) -> Iterator[tuple[str, str, pd.Series]]:
    """Title, kind and row of every variant of a section, the default setting first."""
    rows = view.results[view.results[keys.SAMPLE] == sample]
    groups = dict(iter(rows.groupby(list(VARIANT))))
    variants = view.variants(rows)
    for variant in sorted(variants, key=lambda v: not (is_model(v) and v[1] == view.default)):
        method, setting = variant[:2]
        title = setting if is_model(variant) else method
        yield title, "model" if is_model(variant) else "control", _typical(groups[variant])


def _typical(rows: pd.DataFrame) -> pd.Series:
    """The row whose ARI is nearest to the median over seeds; the first where there is no ARI."""
    done = rows[rows[keys.STATUS] == keys.OK].sort_values(keys.SEED)
    if done.empty:
        return rows.iloc[0]
    distance = (done[keys.ARI] - done[keys.ARI].median()).abs().round(12)
    return done.iloc[0] if distance.isna().all() else done.loc[distance.idxmin()]


def _frame(display: Display) -> _Frame:
    xy = display.xy if display.thumbnail_xy is None else display.thumbnail_xy
    near = KDTree(xy).query(xy, k=2)[0][:, 1] if len(xy) > 1 else np.ones(1)
    spacing = float(np.median(near)) or 1.0
    low, high = xy.min(axis=0) - _MARGIN * spacing, xy.max(axis=0) + _MARGIN * spacing
    if display.thumbnail is not None:
        with Image.open(io.BytesIO(display.thumbnail)) as image:
            low, high = np.maximum(low, 0), np.minimum(high, image.size)
    scale = _OVERLAY_PIXELS / float((high - low).max())
    width, height = np.maximum(np.round((high - low) * scale), 1).astype(int).tolist()
    return _Frame((xy - low) * scale, spacing * scale, (width, height), (*low.tolist(), *high.tolist()))


def _image(display: Display, frame: _Frame) -> bytes | None:
    if display.thumbnail is None:
        return None
    with Image.open(io.BytesIO(display.thumbnail)) as image:
        part = image.convert("RGB").crop(tuple(round(edge) for edge in frame.box))
    part.thumbnail((_IMAGE_PIXELS, _IMAGE_PIXELS))
    buffer = io.BytesIO()
    part.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _overlay(frame: _Frame, codes: np.ndarray, display: Display) -> bytes:
    """PNG of the spots as discs coloured by `codes` (N,)."""
    width, height = frame.size
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="none")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    diameter = np.full(len(codes), _DISC * frame.spacing)
    # Codes beyond the palette repeat its colours with a dark rim.
    rims = np.where(codes >= len(PALETTE), "black", "white" if display.thumbnail else "#666666")
    discs = EllipseCollection(
        diameter,
        diameter,
        np.zeros(len(codes)),
        units="xy",
        offsets=frame.xy,
        offset_transform=axes.transData,
        facecolors=[colour_of(int(c)) for c in codes],
        edgecolors=rims.tolist(),
        linewidths=np.where(codes >= len(PALETTE), 1.2, 0.4),
    )
    axes.add_collection(discs)
    canvas.draw()
    buffer = io.BytesIO()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    picture.quantize(128, method=Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
