"""Running a trial: every seed fitted, their consensus, and the rows that say so. No Ray in here."""

from __future__ import annotations

import functools
import json
import logging
import time
from dataclasses import asdict
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from senca_ray import keys
from senca_ray.data import shards
from senca_ray.data.location import patiently
from senca_ray.data.near import near
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.consensus import Agreement, agreement, consensus, stability, typical
from senca_ray.fit.scores import score
from senca_ray.methods import method
from senca_ray.methods.base import device_of, finetunes
from senca_ray.methods.memory import peak_memory_mb
from senca_ray.methods.protocol import Protocol
from senca_ray.methods.run import Outcome, genes_needed, run_seeds
from senca_ray.study.checkpoint import TrialCheckpoint
from senca_ray.study.trial import OutOfMemory, Trial, failed_row, failed_rows, trial_row

_log = logging.getLogger(__name__)

_KEPT = (keys.MODEL_KIND, keys.PUBLISHED)
"""Kinds of methods whose embeddings are kept: what others see follows from the section at once."""


def run_trial(
    trial: Trial, device: str = "cpu", checkpoint: TrialCheckpoint | None = None
) -> list[dict[str, Any]]:
    """Fit every seed and return their result rows, then that of their consensus.

    The row of the typical seed also carries its embedding, (N, D) float32, of methods that `_KEPT` names.

    A fit that raises gives a failed row with its reason, and so does every seed when the section cannot be
    read at all: a failure is a result, not the end of the study. Going on from a checkpoint, seeds that
    have their row are not fitted again; the caller removes it once the rows are safe.
    Raises OutOfMemory when a GPU's memory does not suffice, which is no property of the trial.
    """
    used, device = method(trial.method), device_of(method(trial.method), device)
    try:
        genes = genes_needed(used, trial.setting, trial.protocols)
        patches = finetunes(used, trial.setting)
        sample = _read(trial.shard, genes, trial.setting.encoder, patches)
    except (SencaError, OSError, ValueError) as error:
        return failed_rows(trial, _reason(error))
    done: dict[int, list[dict[str, Any]]] = {}
    if checkpoint is not None:
        for row in checkpoint.begin(_identity(trial, sample, device)):
            done.setdefault(row[keys.SEED], []).append(row)
    todo = [seed for seed in trial.seeds if seed not in done]
    outcomes = run_seeds(used, sample, trial.setting, todo, trial.protocols, device, checkpoint)
    learnt: dict[int, np.ndarray] = {}
    for seed, results in zip(todo, outcomes, strict=True):
        if used.kind in _KEPT and isinstance(results[0], Outcome):
            learnt[seed] = results[0].embedding.values
        done[seed] = [
            _seed_row(trial, seed, protocol, sample, device, result)
            for protocol, result in zip(trial.protocols, results, strict=True)
        ]
        if checkpoint is not None:
            checkpoint.add(done[seed])
    own = [done[seed][0] for seed in trial.seeds]
    pairs = _mark_typical(own)
    for row in own:
        if row[keys.TYPICAL] and used.kind in _KEPT:
            row[keys.EMBEDDING] = _learnt(trial, sample, row[keys.SEED], device, learnt)
    rows = [row for seed in trial.seeds for row in done[seed]]
    return rows if len(trial.seeds) == 1 else [*rows, _consensus_row(trial, sample, own, pairs)]


def _mark_typical(rows: list[dict[str, Any]]) -> Agreement:
    """Mark the typical row among those of all seeds; returns how well those that did not fail agree."""
    done = [row for row in rows if row[keys.STATUS] == keys.OK]
    partitions = [np.array(row[keys.REGIONS]) for row in done]
    # The same spots are left out of clustering whatever the seed.
    pairs = agreement([p[p != keys.NO_REGION] for p in partitions]) if done else {}
    shown = done[typical(pairs)] if done else None
    for row in rows:
        row[keys.TYPICAL] = row is shown
    return pairs


def _learnt(
    trial: Trial, sample: Sample, seed: int, device: str, known: dict[int, np.ndarray]
) -> np.ndarray | None:
    """The embedding of a seed, (N, D) float32; of one fitted before an interruption it is made again."""
    if seed not in known:
        again = run_seeds(method(trial.method), sample, trial.setting, [seed], [trial.protocol], device)
        outcome = next(again)[0]
        if isinstance(outcome, Exception):
            _log.warning(
                "%s on %s, seed %s: no embedding kept (%s)", trial.method, trial.sample, seed, outcome
            )
            return None
        known[seed] = outcome.embedding.values
    return known[seed].astype(np.float32)


def _seed_row(
    trial: Trial, seed: int, protocol: Protocol, sample: Sample, device: str, outcome: Outcome | Exception
) -> dict[str, Any]:
    row = trial_row(trial, trial.key(seed, protocol), sample, device)
    if isinstance(outcome, Exception):
        if device != "cpu" and _is_out_of_memory(outcome):
            raise OutOfMemory(
                f"{trial.method} on {trial.sample}: the GPU's memory ran out ({outcome}); "
                "run fewer trials side by side on it"
            ) from outcome
        if not isinstance(outcome, SencaError):
            _log.error("%s on %s, seed %s", trial.method, trial.sample, seed, exc_info=outcome)
        return failed_row(row, _reason(outcome)) | {keys.PEAK_MEMORY_MB: peak_memory_mb(device)}
    losses = outcome.embedding.losses
    return row | {
        keys.STATUS: keys.OK,
        keys.K: outcome.k,
        **_score_columns(outcome.scores),
        keys.LOSS_FIRST: losses[0] if losses else None,
        keys.LOSS_LAST: losses[-1] if losses else None,
        keys.SECONDS: outcome.seconds,
        keys.PEAK_MEMORY_MB: outcome.peak_memory_mb,
        keys.REGIONS: outcome.regions.tolist(),
        keys.LOSSES: list(losses),
    }


def _consensus_row(
    trial: Trial, sample: Sample, rows: list[dict[str, Any]], pairs: Agreement
) -> dict[str, Any]:
    """What the seeds agree on; it is computed on the CPU wherever they were fitted."""
    row = trial_row(trial, trial.key(keys.ALL_SEEDS, trial.protocol), sample, "cpu")
    failed = [str(r[keys.SEED]) for r in rows if r[keys.STATUS] == keys.FAILED]
    if failed:
        return failed_row(row, f"no consensus, because of failed seeds: {', '.join(failed)} of {len(rows)}")
    started = time.perf_counter()
    protocol = trial.protocol
    try:
        whole = [np.array(r[keys.REGIONS], dtype=np.int16) for r in rows]
        clustered = whole[0] != keys.NO_REGION
        part, partitions = sample.subset(clustered), [p[clustered] for p in whole]
        # Under the policy `auto` seeds may differ in k.
        k = int(np.median([r[keys.K] for r in rows]))
        with threadpool_limits(1):
            found = consensus(partitions, k, row[keys.FORM])
            scores = score(part, None, found, protocol.pair, protocol.undetermined == keys.SCORED)
            alike = stability(pairs)
    except Exception as error:  # noqa: BLE001  as of a seed: the reason is this row's result
        _log.exception("%s on %s, consensus", trial.method, trial.sample)
        return failed_row(row, _reason(error))
    regions = np.full(len(clustered), keys.NO_REGION, dtype=np.int16)
    regions[clustered] = found
    return row | {
        keys.STATUS: keys.OK,
        keys.K: k,
        **_score_columns(scores),
        keys.STABILITY: alike,
        keys.N_SEEDS: len(rows),
        keys.SECONDS: time.perf_counter() - started,
        keys.PEAK_MEMORY_MB: peak_memory_mb(),
        keys.REGIONS: regions.tolist(),
    }


_SCORES = (
    keys.N_SPOTS,
    keys.N_SCORED,
    keys.ARI,
    keys.NMI,
    keys.SILHOUETTE,
    keys.CHAOS,
    keys.PAS,
    keys.PAIR_AMI,
)


def _score_columns(scores: dict[str, Any]) -> dict[str, Any]:
    f1 = scores[keys.LABEL_F1]
    return {name: scores[name] for name in _SCORES} | {keys.LABEL_F1: None if f1 is None else json.dumps(f1)}


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, SencaError) else f"{type(error).__name__}: {error}"


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    # cuBLAS, which allocates for itself, and a context that finds no room have no class of their own.
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(sign in str(error) for sign in ("CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory"))
    )


def _identity(trial: Trial, sample: Sample, device: str) -> str:
    """All that the rows of a seed follow from; a checkpoint of anything else is of no use."""
    row = trial_row(trial, trial.key(keys.ALL_SEEDS, trial.protocol), sample, device)
    return json.dumps(row | {"protocols": [asdict(p) for p in trial.protocols]}, sort_keys=True)


@functools.lru_cache(maxsize=2)
def _read(shard: str, genes: int, encoder: str, patches: bool) -> Sample:
    """A worker goes through one section's settings in turn, so the last shards read stay in memory.

    A storage that is away is waited for: that is no property of the trial.
    """

    def read() -> Sample:
        with near(shard) as here:
            return shards.read_sample(here, genes, encoder, patches)

    return patiently(read, lambda error: _log.warning("waiting for the storage: %s", error))
