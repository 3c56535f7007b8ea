"""What each of the paper's figures shows of a section, with the words that it needs to stand alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from shapely import MultiPolygon

from senca_ray import keys
from senca_ray.analysis.kinds import kind_table
from senca_ray.analysis.markers import log_expression, missing_genes, top_markers
from senca_ray.analysis.outlines import region_outlines
from senca_ray.analysis.portrait import Portrait
from senca_ray.analysis.tables import k_words
from senca_ray.analysis.terminal import count
from senca_ray.data.sample import ALL_GENES
from senca_ray.data.shards import read_sample
from senca_ray.errors import SencaError
from senca_ray.report.explorer import region_codes
from senca_ray.report.figure_panels import Entry, Panel, Sheet
from senca_ray.report.figure_words import (
    ARI_WORDS,
    MOST_MARKERS,
    bar_words,
    colour_words,
    control_words,
    fitted,
    foot,
    labels_of,
    marked,
    marker_words,
    outcome,
    over_seeds,
    portrait_words,
    rests_on,
    seed_words,
    title_of,
)
from senca_ray.report.maps import (
    NOT_CLUSTERED,
    NOT_CLUSTERED_COLOUR,
    SectionMaps,
    SpotMap,
    colour_of,
    section_maps,
)
from senca_ray.report.spot_panels import (
    EXTREMES,
    aspect,
    barred,
    expression,
    rim_of,
    spots,
    tissue,
    trimmed,
    umap,
    umap_shares,
)
from senca_ray.report.view import StudyView, settings_of

Tell = Callable[[str], None]
"""Takes what is left out, and why."""
Make = Callable[[StudyView, str, SectionMaps, Tell], Sheet | None]

_TRUTH = {
    keys.ANNOTATED: "pathologist's labels",
    keys.TRANSFERRED: "transferred labels",
    keys.SIMULATED: "simulated regions (the truth)",
}


def compared_sheet(view: StudyView, sample: str, section: SectionMaps, tell: Tell) -> Sheet | None:
    """Figure 2: tissue, labels, and what every method or setting made of the section."""
    shown = [m for m in section.maps if m.row is not None]
    done = [m for m in shown if m.codes is not None]
    if not done:
        tell("no fit of the section ended well")
        return None
    panels = [*_tissue(section, tell), *_truth(view, sample, section, tell)]
    panels += [_map(section, title_of(m), m, outcome(m)) for m in shown]
    words = [seed_words(done, view), ARI_WORDS if labels_of(section) else "", colour_words(section)]
    return _section_sheet(view, sample, section, panels, _label_legend(section), words)


def marker_sheet(view: StudyView, sample: str, section: SectionMaps, tell: Tell) -> Sheet | None:
    """Figure 3: the regions, and the expression of the strongest marker of up to six of them."""
    portrait = _portrait(view, sample, tell)
    if portrait is None:
        return None
    strongest = top_markers(portrait.markers, 1).sort_values("effect", ascending=False, kind="stable")
    if strongest.empty:
        tell("no gene is known to be significantly higher in one region than in the others")
        return None
    drawn = strongest.head(MOST_MARKERS).sort_values("region")
    levels = _levels(view, sample, list(drawn["gene"]), tell)
    if not levels:
        return None
    codes, legend = _matched(view, section, portrait)
    section = trimmed(section)
    outlines = _outlines(section, portrait, tell)
    high = aspect(section)
    panels = [Panel("regions", spots(section, codes, outlines), high, count(portrait.k, "region"))]
    # A gene that marks several regions has one map.
    for gene, rows in drawn[drawn["gene"].isin(levels)].groupby("gene", sort=False):
        draw = expression(section, levels[str(gene)], [outlines[r] for r in rows["region"] if r in outlines])
        panels.append(Panel(str(gene), draw, high, marked(rows), italic=True, bar=True))
    words = [
        portrait_words(portrait),
        marker_words(portrait, strongest),
        "The markers were found on the same counts as the regions: a ranking, not a test.",
        "Colour: log1p of counts scaled to the same total in every spot; a gene's scale goes from its "
        f"{EXTREMES[0]:.0%} to its {EXTREMES[1]:.0%} quantile over the spots.",
        colour_words(section),
    ]
    return _section_sheet(view, sample, section, panels, legend, words)


def ablation_sheet(view: StudyView, sample: str, section: SectionMaps, tell: Tell) -> Sheet | None:
    """Figure 4: labels and every variant of an ablation, or value of a sweep, with its mean over seeds."""
    if view.description["kind"] != "grid" or len(view.description["variants"]) < 2:
        tell("the study compares no variants of the model; experiments/ablation.py makes one that does")
        return None
    section = trimmed(section)
    maps = {m.title: m for m in section.maps if m.kind == "model"}
    shown = [maps[name] for name in settings_of(view.description) if name in maps]
    done = [m for m in shown if m.codes is not None]
    if not done:
        tell("no fit of the model on the section ended well")
        return None
    panels = _truth(view, sample, section, tell)
    for m in shown:
        default = f"{m.title} (default)" if m.title == view.default else m.title
        title = title_of(m).replace(m.title, default, 1)
        panels.append(_map(section, title, m, over_seeds(view, sample, m)))
    words = [seed_words(done, view), colour_words(section)]
    if labels_of(section):
        words.insert(0, f"{ARI_WORDS} Mean ± sd over the seeds.")
    return _section_sheet(view, sample, section, panels, _label_legend(section), words)


def umap_sheet(view: StudyView, sample: str, section: SectionMaps, tell: Tell) -> Sheet | None:
    """Figure 5: UMAP by label and by region; without labels by region and by confidence."""
    portrait = _portrait(view, sample, tell)
    if portrait is None:
        return None
    if portrait.umap is None:
        tell(f"no embedding of {fitted(portrait)} was kept, so there is no UMAP")
        return None
    codes, legend = _matched(view, section, portrait)
    panels = [Panel("by region", umap(portrait.umap, codes), 1, count(portrait.k, "region"))]
    labels = labels_of(section)
    if labels is not None and labels.codes is not None:
        title = f"by label: {_TRUTH[view.displays[sample].label_source]}"
        panels.insert(0, Panel(title, umap(portrait.umap, labels.codes), 1))
        legend = _with_labels(view, section, legend, codes)
    elif portrait.confidence is not None:
        tell("made by confidence in place of labels: the section has none")
        draw = umap_shares(portrait.umap, portrait.confidence)
        panels.append(Panel("by confidence", draw, 1, "share of seeds that agree with the region", bar=True))
    else:
        tell("made by region alone: the section has no labels, and one seed knows no confidence")
    seed = "" if portrait.seed is None else f" with seed {portrait.seed}"
    words = [
        f"UMAP of the embedding that {fitted(portrait)} learnt{seed}.",
        portrait_words(portrait),
        colour_words(section),
        rests_on(view, sample),
    ]
    return Sheet(tuple(panels), tuple(legend), foot(view, words))


SHEETS: dict[str, Make] = {
    "figure2": compared_sheet,
    "figure3": marker_sheet,
    "figure4": ablation_sheet,
    "figure5": umap_sheet,
}
"""What makes each figure of a section, by its name in the paper."""


def cohort_sheet(view: StudyView, tell: Tell) -> Sheet | None:
    """All sections by kind of region, their own regions outlined and numbered."""
    portraits = {name: p for name, p in view.portraits.items() if p.kinds}
    if not portraits:
        tell("the regions of the sections were not matched with each other")
        return None
    for sample in view.description["shards"]:
        if sample not in portraits:
            tell(f"made without {sample}: {view.unreadable.get(sample, 'its regions were not matched')}")
    panels = []
    for sample, portrait in portraits.items():
        section = trimmed(section_maps(view, sample))
        codes = portrait.kinds_of_spots(NOT_CLUSTERED)
        outlines = _outlines(section, portrait, tell)
        draw = barred(spots(section, codes, outlines), section)
        panels.append(Panel(f"{sample}, patient {view.displays[sample].patient}", draw, aspect(section)))
    words = [
        "Regions of one kind share a colour: they were matched across sections without labels. Numbers are "
        "those of a section's own regions.",
        control_words(view),
        *dict.fromkeys(portrait_words(portrait) for portrait in portraits.values()),
        bar_words(view, *portraits),
        f"k policy {k_words(view.description['k_policy'])}.",
    ]
    legend = _kind_legend(view, portraits)
    return Sheet(tuple(panels), tuple(legend), foot(view, words))


def _kind_legend(view: StudyView, portraits: dict[str, Portrait]) -> list[Entry]:
    table = kind_table(portraits, {name: display.patient for name, display in view.displays.items()})
    legend = []
    for kind, rows in table.groupby("kind"):
        code, patients = int(str(kind)), count(rows[keys.PATIENT].nunique(), "patient")
        seen = f"{count(rows[keys.SAMPLE].nunique(), 'section')} of {patients}"
        legend.append(Entry(f"kind {code}: {seen}", (colour_of(code),), rim_of(code)))
    return legend


def _tissue(section: SectionMaps, tell: Tell) -> list[Panel]:
    if section.image is None:
        tell("made without H&E: the section has no image")
        return []
    return [Panel("H&E", tissue(section), aspect(section))]


def _truth(view: StudyView, sample: str, section: SectionMaps, tell: Tell) -> list[Panel]:
    labels = labels_of(section)
    if labels is None:
        tell("made without ground truth and ARI: the section has no labels")
        return []
    return [_map(section, _TRUTH[view.displays[sample].label_source], labels, "")]


def _map(section: SectionMaps, title: str, spot_map: SpotMap, below: str) -> Panel:
    return Panel(title, spots(section, spot_map.codes), aspect(section), below)


def _portrait(view: StudyView, sample: str, tell: Tell) -> Portrait | None:
    if sample not in view.portraits:
        tell(f"nothing is kept of the regions to go on with; `senca report {view.folder}` makes it")
    return view.portraits.get(sample)


def _outlines(section: SectionMaps, portrait: Portrait, tell: Tell) -> dict[int, MultiPolygon]:
    """The outline of every region; none where spots cannot be told apart by their places."""
    try:
        return region_outlines(section.xy, section.spacing, portrait.regions)
    except SencaError as error:
        tell(f"made without outlines of {portrait.sample}: {error}")
        return {}


def _levels(view: StudyView, sample: str, genes: list[str], tell: Tell) -> dict[str, np.ndarray]:
    """Expression (N,) of each gene; none where the shard does not hold it."""
    try:
        read = read_sample(view.description["shards"][sample], ALL_GENES)
    except (SencaError, OSError, ValueError, KeyError, pa.ArrowException) as error:
        tell(f"its counts cannot be read: {error}")
        return {}
    if missing := missing_genes(genes, read.genes):
        made = "made without maps of" if len(missing) < len(genes) else "no map of"
        tell(f"{made} {', '.join(missing)}: not among the section's genes")
    return log_expression(read.counts, read.genes, read.total_counts, read.target_sum, genes)


def _label_legend(section: SectionMaps) -> list[Entry]:
    legend = [Entry(name, (colour,)) for name, colour, _ in section.legend]
    if section.extra and legend:
        legend.append(Entry("regions that match no label", section.extra))
    if section.not_clustered:
        legend.append(Entry("left out of clustering", (NOT_CLUSTERED_COLOUR,)))
    return legend


def _matched(view: StudyView, section: SectionMaps, portrait: Portrait) -> tuple[np.ndarray, list[Entry]]:
    """Colour codes (N,) of a portrait's regions in the colours of the section's maps, and their legend."""
    codes = region_codes(portrait, section, len(view.labels))
    legend = []
    for region in np.unique(portrait.regions[portrait.regions != keys.NO_REGION]).tolist():
        own = portrait.regions == region
        code = int(codes[own][0])
        matched = "" if labels_of(section) is None else ", matches no label"
        if code < len(view.labels):
            matched = f", matched to {view.labels[code]}"
        name = f"region {region} ({count(int(own.sum()), 'spot')}){matched}"
        legend.append(Entry(name, (colour_of(code),), rim_of(code)))
    if (portrait.regions == keys.NO_REGION).any():
        legend.append(Entry("left out of clustering", (NOT_CLUSTERED_COLOUR,)))
    return codes, legend


def _with_labels(
    view: StudyView, section: SectionMaps, legend: list[Entry], codes: np.ndarray
) -> list[Entry]:
    """The legend with the labels that no region is matched to."""
    shown = {view.labels[code] for code in np.unique(codes).tolist() if 0 <= code < len(view.labels)}
    return legend + [
        Entry(name if name == keys.UNDETERMINED else f"{name}, matched to no region", (colour,))
        for name, colour, _ in section.legend
        if name not in shown
    ]


def _section_sheet(
    view: StudyView,
    sample: str,
    section: SectionMaps,
    panels: Sequence[Panel],
    legend: list[Entry],
    words: Sequence[str],
) -> Sheet:
    """Maps of one section, all of one scale, the first with a bar."""
    first = dataclasses.replace(panels[0], draw=barred(panels[0].draw, section))
    small_print = foot(view, [*words, bar_words(view, sample), rests_on(view, sample)])
    return Sheet((first, *panels[1:]), tuple(legend), small_print)
