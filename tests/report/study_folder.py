"""Finished studies in folders, as the runner and the analysis leave them, with known structure."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score

from senca_ray import keys
from senca_ray.analysis.benchmark import benchmark_summary
from senca_ray.analysis.description import read_description
from senca_ray.analysis.embeddings import write_embedding
from senca_ray.analysis.results import Journal, read_results, write_tables
from senca_ray.analysis.selection import with_selection
from senca_ray.analysis.statistics import average_within_patients
from senca_ray.analysis.tables import sweep_summary, write_summary
from senca_ray.config import PrepareConfig, Setting
from senca_ray.data.shards import ShardContent, write_shard
from senca_ray.fit.consensus import agreement, consensus, stability, typical
from senca_ray.fit.scores import label_f1
from senca_ray.methods import CONTROLS, METHODS, MODEL, all_methods
from senca_ray.methods.protocol import Protocol

Fails = Callable[[str, str], bool]
"""Whether the fits of a sample with a setting failed."""

LABELS = ("cancer in situ", "connective tissue", "immune infiltrate", "invasive cancer")

SWEEP: dict[str, dict[str, Any]] = {f"neighbors={n}": {"neighbors": n} for n in (4, 8, 16)}
ABLATION: dict[str, dict[str, Any]] = {
    "without cross-attention weights": {"attention": "uniform"},
    "full": {},
    "without hierarchical learning": {"contrast": False},
    "without image": {"image": False},
    "without graph": {"graph": False},
}
SPACE: dict[str, Any] = {
    "mse_weight": {"low": 1.0, "high": 100.0, "log": True, "step": None},
    "neighbors": {"low": 4, "high": 16, "log": False, "step": 4},
    "hvgs": [250, 500, 1000],
}


BENCHMARK: dict[tuple[str, str], float] = {
    (MODEL, "ward"): 0.7,
    ("untrained", "ward"): 0.45,
    ("coordinates", "kmeans"): 0.35,
    ("smoothed-pca", "kmeans"): 0.8,
    ("smoothed-image", "ward"): 0.75,
    ("bayesspace", keys.OWN): 0.5,
    ("const", "leiden"): 0.4,
    ("const", "kmeans"): 0.6,
}
"""Method and clustering of every row of a block, and how good it is."""
NOT_INSTALLED = "deepst"
"""A method of the benchmark that could not run."""


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
PATIENTS = tuple(Section(f"{name}1", name) for name in "ABCD")


def make_study(
    folder: Path,
    cohort: tuple[Section, ...] = COHORT,
    *,
    variants: dict[str, dict[str, Any]] = SWEEP,
    vary: str | None = "neighbors",
    default: str = "neighbors=4",
    simulated: bool = False,
    seeds: int = 3,
    side: int = 14,
    fails: Fails = lambda sample, setting: (sample, setting) == ("C1", "neighbors=16"),
) -> Path:
    """Write a grid of `side` x `side` spots a section, with failed rows where `fails` says so."""
    out = folder / "study"
    shards = _fit(folder, cohort, dict.fromkeys(variants, 0.75), default, seeds, side, fails)
    kind = {"kind": "grid", "variants": variants, "vary": vary, "default": default}
    _describe(out, shards, seeds, simulated=simulated, **kind)
    write_summary(out, sweep_summary(read_results(out), default, order=tuple(variants)))
    return out


def make_ablation(folder: Path, cohort: tuple[Section, ...] = COHORT, seeds: int = 3) -> Path:
    """Write a grid whose variants have no order."""
    return make_study(
        folder,
        cohort,
        variants=ABLATION,
        vary=None,
        default="full",
        seeds=seeds,
        fails=lambda sample, setting: False,
    )


def make_search(
    folder: Path,
    cohort: tuple[Section, ...] = PATIENTS,
    *,
    select: str = "loo-patient",
    objectives: tuple[str, ...] = (keys.ARI,),
    suggestions: int = 9,
    seeds: int = 2,
    side: int = 10,
) -> Path:
    """Write a search: suggestion 4 was raced out, the last one failed; 'test-patients' tests one."""
    rng = np.random.default_rng(1)
    changes: list[dict[str, Any]] = [{}]
    for _ in range(suggestions - 1):
        weight, neighbors = float(10 ** rng.uniform(0, 2)), int(rng.choice([4, 8, 12, 16]))
        changes.append({"mse_weight": weight, "neighbors": neighbors, "hvgs": int(rng.choice([250, 1000]))})
    labels = ["default", *(_label(one) for one in changes[1:])]
    kept = {
        label: 0.85 - 0.2 * abs(np.log10(one.get("mse_weight", 40.0)) - 1)
        for label, one in zip(labels, changes, strict=True)
    }
    raced, failed = labels[4], labels[-1]
    out = folder / "study"
    skips = {raced: {section.sample for section in cohort[2:]}}
    shards = _fit(folder, cohort, kept, "default", seeds, side, lambda _, label: label == failed, skips)
    results = read_results(out)
    patients = sorted({section.patient for section in cohort})
    test_sets = {
        "loo-patient": {"all": []} | {f"without {name}": [name] for name in patients},
        "test-patients": {"split": patients[:1]},
        "none": {"all": []},
    }[select]
    states = {raced: "raced", failed: "failed"}
    folds = [
        _fold(name, test, cohort, results, objectives, dict(zip(labels, changes, strict=True)), states)
        for name, test in test_sets.items()
    ]
    selection = {"objectives": list(objectives), "aggregate": "mean", "folds": folds}
    (out / keys.SELECTION_FILE).write_text(json.dumps(selection))
    _describe(
        out,
        shards,
        seeds,
        kind="search",
        space=SPACE,
        objectives=list(objectives),
        aggregate="mean",
        suggestions=suggestions,
        select=select,
        test_patients=patients[:1] if select == "test-patients" else [],
        racing=True,
        ahead=2,
        default="default",
    )
    compared = with_selection(results, selection)
    write_summary(out, sweep_summary(compared, "default", order=("default", "tuned")))
    return out


def make_benchmark(
    folder: Path,
    cohort: tuple[Section, ...] = COHORT,
    *,
    methods: dict[tuple[str, str], float] = BENCHMARK,
    protocol: Protocol | None = None,
    seeds: int = 2,
    side: int = 12,
    fails: Fails = lambda sample, method: False,
    simulated: bool = False,
    **described: Any,
) -> Path:
    """Write a benchmark; fits fail where `fails` says so of a sample and a method, NOT_INSTALLED everywhere.

    Under protocols other than its own everything scores OTHER_ARI, the reference 0.
    """
    own, rng, out = protocol or Protocol(), np.random.default_rng(0), folder / "study"
    out.mkdir(parents=True)
    journal, shards = Journal(out), {}
    for section in cohort:
        xy, labels = _spots(rng, side)
        shards[section.sample] = str(write_shard(folder / "shards", _shard(section, xy, labels, rng)))
        for (method, clustering), kept in {**methods, (NOT_INSTALLED, "leiden"): 0.0}.items():
            if section.image or not all_methods()[method].needs_image:
                reason = "RuntimeError: loss is not finite" if fails(section.sample, method) else ""
                reason = "not installed: `get it`" if method == NOT_INSTALLED else reason
                follows = all_methods()[method].follows_setting
                about = _about(section, method, keys.DEFAULT if follows else keys.FIXED)
                about |= {keys.CLUSTERING: clustering}
                rows = _readings(about, section, labels, kept, own, seeds, reason, rng)
                journal.append(_with_learnt(out, rows, own))
    write_tables(out)
    kind = {"kind": "benchmark", "variants": {"default": {}}, "default": "default", "vary": None}
    kind["title"] = "Methods against each other (Table 1)"
    named = [f"{method}:{clustering}" for method, clustering in methods]
    about = {
        "methods": [*named, f"{NOT_INSTALLED}:leiden"],
        "reference": MODEL,
        "unit": keys.PATIENT,
        "slow_seeds": 1,
    }
    judged = {"undetermined": own.undetermined, "refined": own.refined, "sensitivity": True}
    _describe(out, shards, seeds, simulated=simulated, **kind | about | judged | described)
    write_summary(out, benchmark_summary(read_results(out), read_description(out)))
    return out


OTHER_ARI = 0.9871


def _readings(
    about: dict[str, Any],
    section: Section,
    labels: np.ndarray,
    kept: float,
    own: Protocol,
    seeds: int,
    reason: str,
    rng: np.random.Generator,
) -> Iterable[dict[str, Any]]:
    """Rows of all seeds and readings of one method with one clustering, and the consensus of its main one."""
    used = all_methods()[about[keys.METHOD]]
    clustered = (labels != keys.UNDETERMINED) | (own.undetermined != keys.DROPPED)
    regions, rows = [], []
    for seed in range(seeds if used.seeded else 1):
        regions.append(np.where(clustered, _regions(labels, kept + 0.1 * rng.random(), rng), keys.NO_REGION))
        scores = _scores(section, labels, regions[-1])
        for reading in (own, *own.variations()):
            row = about | {keys.SEED: seed, keys.CONFIG: json.dumps(dict(used.settings))}
            row |= {keys.K_POLICY: reading.k_policy, keys.PROTOCOL: reading.handling}
            if reason:
                rows.append(row | {keys.STATUS: keys.FAILED, keys.REASON: reason})
                continue
            row |= scores | {keys.PEAK_MEMORY_MB: 512.0}
            if reading != own and row[keys.ARI] is not None:
                row[keys.ARI] = 0.0 if used.name == MODEL else OTHER_ARI
            rows.append(row)
    if len(regions) > 1 and not reason and about[keys.CLUSTERING] == (used.clusterings or ("ward",))[0]:
        combined = np.full(len(labels), keys.NO_REGION)
        combined[clustered] = consensus([r[clustered] for r in regions], len(LABELS))
        known = {
            keys.STABILITY: stability(agreement([r[clustered] for r in regions])),
            keys.N_SEEDS: len(regions),
        }
        key = {keys.SEED: keys.ALL_SEEDS, keys.CLUSTERING: keys.CONSENSUS}
        rows.append(rows[0] | _scores(section, labels, combined) | known | key)
    return rows


def _with_learnt(out: Path, rows: Iterable[dict[str, Any]], own: Protocol) -> list[dict[str, Any]]:
    """The rows with typical seeds and losses, of a section; keeps embeddings as the aggregator does."""
    kept, trials, rng = list(rows), {}, np.random.default_rng(0)
    for row in kept:
        used = all_methods()[row[keys.METHOD]]
        if row[keys.METHOD] == MODEL and row[keys.STATUS] == keys.OK and row[keys.SEED] != keys.ALL_SEEDS:
            row[keys.LOSSES] = np.geomspace(5, row.get(keys.LOSS_LAST, 0.3), 10).tolist()
        reading = (row[keys.CLUSTERING], row[keys.K_POLICY], row[keys.PROTOCOL])
        if reading == ((used.clusterings or ("ward",))[0], own.k_policy, own.handling):
            trials.setdefault((used.name, row[keys.SETTING]), []).append(row)
    for (name, _), seeds in trials.items():
        done = [row for row in seeds if row[keys.STATUS] == keys.OK]
        shown = done[typical(agreement([np.array(row[keys.REGIONS]) for row in done]))] if done else None
        for row in seeds:
            row[keys.TYPICAL] = row is shown
        if shown and all_methods()[name].kind in (keys.MODEL_KIND, keys.PUBLISHED):
            regions = np.array(shown[keys.REGIONS])
            clouds = 4.0 * (regions[:, None] == np.arange(len(LABELS)))
            write_embedding(out, shown, clouds + rng.normal(size=clouds.shape))
    return kept


def _label(changes: dict[str, Any]) -> str:
    setting = dataclasses.replace(Setting(), **changes)
    return f"s-{hashlib.sha256(setting.to_json().encode()).hexdigest()[:8]}"


def _fold(
    name: str,
    test: list[str],
    cohort: tuple[Section, ...],
    results: pd.DataFrame,
    objectives: tuple[str, ...],
    changes: dict[str, dict[str, Any]],
    states: dict[str, str],
) -> dict[str, Any]:
    tuning = [section.sample for section in cohort if section.patient not in test]
    single = results[(results[keys.METHOD] == MODEL) & (results[keys.CLUSTERING] != keys.CONSENSUS)]
    tried, scores = [], {}
    for number, (label, changed) in enumerate(changes.items()):
        rows = single[(single[keys.SETTING] == label) & single[keys.SAMPLE].isin(tuning)]
        patients = [average_within_patients(rows, objective) for objective in objectives]
        state = states.get(label, "complete")
        values = [float(p.mean()) for p in patients] if state != "failed" else None
        if state == "complete" and values:
            scores[label] = values
        count = len(patients[0])
        tried.append(
            {
                "number": number,
                "label": label,
                "changes": changed,
                "state": state,
                "values": values,
                "patients": count,
            }
        )
    front = [
        label
        for label, (ari, cost) in (scores.items() if len(objectives) == 2 else ())
        if not any(a > ari and c < cost for a, c in scores.values())
    ]
    return {
        "name": name,
        "test_patients": test,
        "tuning_samples": tuning,
        "test_samples": [section.sample for section in cohort if section.patient in test],
        "suggestions": tried,
        "chosen": None if front else max(scores, key=lambda label: scores[label]),
        "front": front,
    }


def _fit(
    folder: Path,
    cohort: tuple[Section, ...],
    kept: dict[str, float],
    default: str,
    seeds: int,
    side: int,
    fails: Fails,
    skips: dict[str, set[str]] | None = None,
) -> dict[str, str]:
    """Write the shards and result tables of a study; `kept` is how good each of the model's settings is."""
    rng = np.random.default_rng(0)
    out = folder / "study"
    out.mkdir(parents=True)
    journal, shards = Journal(out), {}
    for section in cohort:
        xy, labels = _spots(rng, side)
        shards[section.sample] = str(write_shard(folder / "shards", _shard(section, xy, labels, rng)))
        here = {k: v for k, v in kept.items() if section.sample not in (skips or {}).get(k, ())}
        journal.append(
            _with_learnt(out, _rows(section, labels, here, default, seeds, fails, rng), Protocol())
        )
    write_tables(out)
    return shards


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
    section: Section,
    labels: np.ndarray,
    settings: dict[str, float],
    default: str,
    seeds: int,
    fails: Fails,
    rng: np.random.Generator,
) -> Iterable[dict[str, Any]]:
    variants = [(MODEL, setting, "ward", kept) for setting, kept in settings.items()]
    for name in CONTROLS:
        if section.image or not METHODS[name].needs_image:
            setting = default if METHODS[name].follows_setting else "fixed"
            variants.append((name, setting, (METHODS[name].clusterings or ("ward",))[0], 0.4))
    rows: list[dict[str, Any]] = []
    for method, setting, clustering, kept in variants:
        about = _about(section, method, setting)
        failed = {keys.STATUS: keys.FAILED, keys.REASON: "RuntimeError: loss is not finite"}
        regions = []
        for seed in range(seeds if METHODS[method].seeded else 1):
            about |= {keys.SEED: seed, keys.CLUSTERING: clustering}
            if fails(section.sample, setting):
                rows.append(about | failed)
                continue
            regions.append(_regions(labels, kept + 0.1 * rng.random(), rng))
            rows.append(about | _scores(section, labels, regions[-1]) | {keys.LOSS_LAST: 1 - kept})
        if METHODS[method].seeded and seeds > 1:
            about |= {keys.SEED: keys.ALL_SEEDS, keys.CLUSTERING: keys.CONSENSUS}
            if not regions:
                rows.append(about | failed)
                continue
            combined = consensus(regions, len(LABELS))
            known = {keys.STABILITY: stability(agreement(regions)), keys.N_SEEDS: len(regions)}
            rows.append(about | _scores(section, labels, combined) | known)
    return rows


def _about(section: Section, method: str, setting: str) -> dict[str, Any]:
    return {
        keys.STUDY: "made-up",
        keys.METHOD: method,
        keys.SETTING: setting,
        keys.SAMPLE: section.sample,
        keys.K_POLICY: "labels",
        keys.PROTOCOL: keys.UNSCORED,
        keys.PATIENT: section.patient,
        keys.MODALITY: keys.RNA_IMAGE if section.image else keys.RNA,
        keys.LABEL_SOURCE: section.label_source,
        keys.CONFIG: "{}",
        keys.VERSIONS: "{}",
        keys.DEVICE: "cpu",
        keys.ENCODER: "efficientnet-lite0" if section.image else "none",
        keys.FINGERPRINT: "0" * 64,
    }


def _regions(labels: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    """Regions that repeat the labels for a share of the spots and are random for the rest."""
    codes = np.unique(np.where(labels == keys.UNDETERMINED, LABELS[0], labels), return_inverse=True)[1]
    renamed = rng.permutation(len(LABELS))[codes]
    return np.where(rng.random(len(labels)) < kept, renamed, rng.integers(0, len(LABELS), len(labels)))


def _scores(section: Section, labels: np.ndarray, regions: np.ndarray) -> dict[str, Any]:
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
        keys.PAS: float((regions[1:] != regions[:-1]).mean()),
        keys.SECONDS: 0.5 + float((regions == 0).sum()) / 1000,
        keys.REGIONS: regions.astype(np.int16).tolist(),
    }


def _describe(out: Path, shards: dict[str, str], seeds: int, *, simulated: bool = False, **kind: Any) -> None:
    description = {
        "schema": 2,
        "name": "made-up",
        "title": "Effect of the neighbour count (SENCA-st Table 5)",
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
    (out / keys.STUDY_FILE).write_text(json.dumps(description | kind))
