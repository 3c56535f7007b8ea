"""What the page says of each section: facts, maps, regions to go on with, panel."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd

from senca_ray import keys
from senca_ray.analysis.annotators import (
    against_annotators,
    annotator_agreement,
    ceiling_remark,
    labels_by_annotator,
)
from senca_ray.analysis.portrait import Portrait
from senca_ray.data.shards import Display
from senca_ray.report.explorer import explorer
from senca_ray.report.maps import SectionMaps, overlay, section_maps
from senca_ray.report.portraits import portrait_content
from senca_ray.report.view import StudyView

_SOURCE_WORDS = {
    keys.ANNOTATED: "annotated by a pathologist",
    keys.TRANSFERRED: "transferred labels: approximate",
    keys.SIMULATED: "simulated: the region each spot was drawn from",
    keys.UNLABELLED: "none",
}


def section_content(view: StudyView, sample: str) -> dict[str, Any]:
    """What the page's template says of one section; of one whose shard cannot be read only why."""
    if sample in view.unreadable:
        return {"sample": sample, "unreadable": view.unreadable[sample], "explorer": None}
    display = view.displays[sample]
    portrait = view.portraits.get(sample)
    drawn = section_maps(view, sample)
    return {
        "sample": sample,
        "unreadable": None,
        "patient": display.patient,
        "n_spots": len(display.xy),
        "modality": display.modality,
        "encoders": _encoders(view, sample) or [display.encoder],
        "large": _large(view, sample),
        "has_image": drawn.image is not None,
        "labels": _SOURCE_WORDS[display.label_source],
        "notes": display.notes,
        "drawn": drawn,
        "maps": [(m, None if m.codes is None else overlay(drawn, m.codes)) for m in drawn.maps],
        "recovery": _recovery(drawn, display.labels),
        "annotators": _annotators(display, portrait),
        "portrait": portrait and portrait_content(view, portrait, drawn),
        "explorer": portrait and explorer(display, portrait, drawn, view.labels),
    }


def _encoders(view: StudyView, sample: str) -> list[str]:
    """The image encoders whose features the section's fits used."""
    mine = view.results[view.results[keys.SAMPLE] == sample]
    return sorted(set(mine[keys.ENCODER].dropna()) - {"none"})


def _large(view: StudyView, sample: str) -> bool:
    """Whether the section's fits were computed in the form for many spots; older studies have no such."""
    mine = view.results[view.results[keys.SAMPLE] == sample]
    return keys.FORM in mine and bool((mine[keys.FORM] == keys.LARGE).any())


def _annotators(display: Display, portrait: Portrait | None) -> dict[str, Any] | None:
    """How far several annotators agree, and the regions to go on with beside them; None with one."""
    labels = labels_by_annotator(display)
    if len(labels) < 2:
        return None
    against = None if portrait is None else against_annotators(portrait.regions, labels)
    return {
        "agreement": annotator_agreement(labels).to_dict("records"),
        "against": [] if against is None else against.to_dict("records"),
        "remark": "" if against is None else ceiling_remark(against),
    }


def _recovery(drawn: SectionMaps, labels: np.ndarray | None) -> dict[str, Any] | None:
    """Of the regions drawn: how well each label is recovered and the named pair told apart."""
    shown = [(m, m.row) for m in drawn.maps if m.row is not None and m.codes is not None]
    if labels is None or not shown:
        return None
    scores = [json.loads(row[keys.LABEL_F1] or "{}") for _, row in shown]
    pairs = [row[keys.PAIR_AMI] for _, row in shown]
    return {
        "columns": [spot_map for spot_map, _ in shown],
        "lines": [
            (name, count, [found.get(name, math.nan) for found in scores])
            for name, _, count in drawn.legend
            if name != keys.UNDETERMINED
        ],
        "pair": None if all(pd.isna(value) for value in pairs) else pairs,
    }
