"""A finished study in a folder, as the runner and the analysis leave it, with known structure."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score

from senca_ray import keys
from senca_ray.analysis.results import Journal, read_results, write_tables
from senca_ray.analysis.tables import sweep_summary, write_summary
from senca_ray.config import PrepareConfig, Setting
from senca_ray.data.shards import ShardContent, write_shard
from senca_ray.fit.scores import label_f1
from senca_ray.methods import CONTROLS, METHODS, MODEL

Fails = Callable[[str, str], bool]
"""Whether the fits of a sample with a setting failed."""

LABELS = ("cancer in situ", "connective tissue", "immune infiltrate", "invasive cancer")


@dataclasses.dataclass(frozen=True)
class Section:
    """What a made-up section is like."""

    sample: str
    patient: str
    image: bool = True
    label_source: str = keys.ANNOTATED
    notes: tuple[str, ...] = ()


COHORT = (
    Section("A1", "A", notes=("3 spots without counts were left out",)),
    Section("A2", "A", label_source=keys.TRANSFERRED),
    Section("B1", "B", image=False),
    Section("C1", "C"),
)


def make_study(
    folder: Path,
    cohort: tuple[Section, ...] = COHORT,
    *,
    simulated: bool = False,
    seeds: int = 3,
    side: int = 14,
    fails: Fails = lambda sample, setting: (sample, setting) == ("C1", "neighbors=16"),
) -> Path:
    """Write a study of `side` x `side` spots a section, with failed rows where `fails` says so."""
    rng = np.random.default_rng(0)
    out = folder / "study"
    out.mkdir(parents=True)
    journal, shards = Journal(out), {}
    for section in cohort:
        xy, labels = _spots(rng, side)
        shards[section.sample] = str(write_shard(folder / "shards", _shard(section, xy, labels, rng)))
        journal.append(_rows(section, labels, seeds, fails, rng))
    write_tables(out)
    (out / keys.STUDY_FILE).write_text(json.dumps(_description(shards, simulated, seeds)))
    write_summary(out, sweep_summary(read_results(out), "neighbors=4"))
    return out


def _spots(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    xy = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    centres = rng.uniform(0, side, (len(LABELS), 2))
    labels = np.array(LABELS)[np.linalg.norm(xy[:, None] - centres, axis=2).argmin(axis=1)].astype(object)
    labels[rng.random(len(xy)) < 0.05] = keys.UNDETERMINED
    return xy, labels.astype(str)


def _shard(section: Section, xy: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> ShardContent:
    labelled = section.label_source != keys.UNLABELLED
    meta: dict[str, Any] = {
        "sample": section.sample,
        "patient": section.patient,
        "label_source": section.label_source,
        "modality": keys.RNA_IMAGE if section.image else keys.RNA,
        "encoder": "efficientnet-lite0" if section.image else "none",
        "fingerprint": "0" * 64,
        "notes": list(section.notes),
        "config": dataclasses.asdict(PrepareConfig()),
        "thumbnail_scale": 0.25,
    }
    pixel_xy = (xy + 2.5) * 160
    return ShardContent(
        meta=meta,
        spots=tuple(f"{x:g}x{y:g}" for x, y in xy),
        xy=xy,
        pixel_xy=pixel_xy if section.image else None,
        labels=tuple(labels.tolist()) if labelled else None,
        neighbors=np.zeros((len(xy), 16), np.int32),
        genes=("G1",),
        counts=csr_matrix(np.ones((len(xy), 1), np.int32)),
        dispersion=np.zeros(1),
        image_features=np.zeros((len(xy), 2), np.float32) if section.image else None,
        patches=None,
        thumbnail=_tissue(int((xy.max() + 5) * 40), rng) if section.image else None,
    )


def _tissue(side: int, rng: np.random.Generator) -> bytes:
    image = Image.new("RGB", (side, side), (240, 236, 240))
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 30, side - 30, side - 30), fill=(226, 170, 200))
    for x, y in rng.uniform(50, side - 50, (1500, 2)):
        draw.ellipse((x, y, x + 4, y + 4), fill=(90, 50, 130))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _rows(
    section: Section, labels: np.ndarray, seeds: int, fails: Fails, rng: np.random.Generator
) -> list[dict[str, Any]]:
    variants = [(MODEL, f"neighbors={n}", "ward", 0.75) for n in (4, 8, 16)]
    for name in CONTROLS:
        if section.image or not METHODS[name].needs_image:
            setting = "neighbors=4" if METHODS[name].follows_setting else "fixed"
            variants.append((name, setting, METHODS[name].clustering or "ward", 0.4))
    rows = []
    for method, setting, clustering, kept in variants:
        for seed in range(seeds if METHODS[method].seeded else 1):
            key = {
                keys.STUDY: "sweep-neighbors",
                keys.METHOD: method,
                keys.SETTING: setting,
                keys.SAMPLE: section.sample,
                keys.SEED: seed,
                keys.CLUSTERING: clustering,
                keys.K_POLICY: "labels",
            }
            block = {
                keys.PATIENT: section.patient,
                keys.MODALITY: keys.RNA_IMAGE if section.image else keys.RNA,
                keys.LABEL_SOURCE: section.label_source,
                keys.CONFIG: "{}",
                keys.VERSIONS: "{}",
                keys.DEVICE: "cpu",
                keys.ENCODER: "efficientnet-lite0" if section.image else "none",
                keys.FINGERPRINT: "0" * 64,
            }
            if fails(section.sample, setting):
                failed = {keys.STATUS: keys.FAILED, keys.REASON: "RuntimeError: loss is not finite"}
                rows.append(key | block | failed)
            else:
                rows.append(key | block | _scores(section, labels, kept + 0.1 * rng.random(), rng))
    return rows


def _scores(section: Section, labels: np.ndarray, kept: float, rng: np.random.Generator) -> dict[str, Any]:
    """Regions that repeat the labels for a share of the spots and are random for the rest."""
    codes = np.unique(np.where(labels == keys.UNDETERMINED, LABELS[0], labels), return_inverse=True)[1]
    renamed = rng.permutation(len(LABELS))[codes]
    regions = np.where(rng.random(len(labels)) < kept, renamed, rng.integers(0, len(LABELS), len(labels)))
    scored = labels != keys.UNDETERMINED
    labelled = section.label_source != keys.UNLABELLED
    return {
        keys.STATUS: keys.OK,
        keys.K: len(LABELS),
        keys.N_SPOTS: len(labels),
        keys.N_SCORED: int(scored.sum()) if labelled else 0,
        keys.ARI: adjusted_rand_score(labels[scored], regions[scored]) if labelled else None,
        keys.LABEL_F1: json.dumps(label_f1(labels[scored], regions[scored]) if labelled else {}),
        keys.PAIR: json.dumps(["invasive cancer", "cancer in situ"]),
        keys.PAIR_AMI: 0.4 if labelled else None,
        keys.SECONDS: 0.5,
        keys.REGIONS: regions.astype(np.int16).tolist(),
    }


def _description(shards: dict[str, str], simulated: bool, seeds: int) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": "sweep-neighbors",
        "title": "Effect of the neighbour count (SENCA-st Table 5)",
        "vary": "neighbors",
        "values": [4, 8, 16],
        "default": 4,
        "setting": dataclasses.asdict(Setting()),
        "seeds": list(range(seeds)),
        "k_policy": "labels",
        "clustering": "ward",
        "controls": list(CONTROLS),
        "pair": ["invasive cancer", "cancer in situ"],
        "data": "made-up cohort",
        "simulated": simulated,
        "shards": shards,
        "prepare": dataclasses.asdict(PrepareConfig()),
        "versions": {"senca-ray": "0.1.0", "torch": "2.13.0"},
        "created": "2026-11-21T10:00:00+00:00",
    }
