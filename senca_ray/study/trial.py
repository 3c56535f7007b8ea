"""A trial: one method at one setting on one section, with all its seeds. No Ray in here."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data import shards
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.methods import method
from senca_ray.methods.run import Protocol, peak_memory_mb, run

_log = logging.getLogger(__name__)

_PACKAGES = ("senca-ray", "torch", "ray", "scikit-learn", "numpy", "scipy")


@dataclass(frozen=True)
class Trial:
    """What a worker needs to know: small values and a shard's address (design decision 4)."""

    study: str
    method: str
    label: str
    """The setting as result rows name it, for example 'neighbors=4'."""
    setting: Setting
    sample: str
    shard: str
    """Address of the sample's shard."""
    seeds: tuple[int, ...]
    protocol: Protocol

    def key(self, seed: int) -> dict[str, Any]:
        """The columns that identify the result row of one seed."""
        return {
            keys.STUDY: self.study,
            keys.METHOD: self.method,
            keys.SETTING: self.label,
            keys.SAMPLE: self.sample,
            keys.SEED: seed,
            keys.CLUSTERING: self.protocol.clustering_of(method(self.method)),
            keys.K_POLICY: self.protocol.k_policy,
        }


def run_trial(trial: Trial) -> list[dict[str, Any]]:
    """Fit every seed and return their result rows.

    A fit that raises gives a failed row with its reason, and so do the seeds after it when the section
    cannot be read at all: a failure is a result, not the end of the study.
    """
    try:
        sample = _read(trial.shard, method(trial.method).genes_needed(trial.setting))
    except (SencaError, OSError, ValueError) as error:
        return [_failed(trial, seed, None, error) for seed in trial.seeds]
    return [_one_seed(trial, seed, sample) for seed in trial.seeds]


def _one_seed(trial: Trial, seed: int, sample: Sample) -> dict[str, Any]:
    try:
        outcome = run(method(trial.method), sample, trial.setting, seed, trial.protocol)
    except Exception as error:  # noqa: BLE001  whatever a method raises is this row's result
        if not isinstance(error, SencaError):
            _log.exception("%s on %s, seed %s", trial.method, trial.sample, seed)
        return _failed(trial, seed, sample, error)
    losses = outcome.embedding.losses
    scores = outcome.scores
    return _row(trial, seed, sample) | {
        keys.STATUS: keys.OK,
        keys.K: outcome.k,
        **{name: scores[name] for name in _SCORES},
        keys.LABEL_F1: None if scores[keys.LABEL_F1] is None else json.dumps(scores[keys.LABEL_F1]),
        keys.LOSS_FIRST: losses[0] if losses else None,
        keys.LOSS_LAST: losses[-1] if losses else None,
        keys.SECONDS: outcome.seconds,
        keys.PEAK_MEMORY_MB: outcome.peak_memory_mb,
        keys.REGIONS: outcome.regions.tolist(),
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


def _failed(trial: Trial, seed: int, sample: Sample | None, error: Exception) -> dict[str, Any]:
    reason = str(error) if isinstance(error, SencaError) else f"{type(error).__name__}: {error}"
    return _row(trial, seed, sample) | {
        keys.STATUS: keys.FAILED,
        keys.REASON: reason,
        keys.PEAK_MEMORY_MB: peak_memory_mb(),
    }


def lost_rows(trial: Trial, times: int) -> list[dict[str, Any]]:
    """Rows of a trial that cannot report itself, because its worker went away every time."""
    error = SencaError(f"its worker was lost {times} times (killed, out of memory, or its node went away)")
    return [_failed(trial, seed, None, error) for seed in trial.seeds]


def _row(trial: Trial, seed: int, sample: Sample | None) -> dict[str, Any]:
    pair = trial.protocol.pair
    row = trial.key(seed) | {
        keys.PAIR: json.dumps(pair) if pair else None,
        keys.DEVICE: "cpu",
        keys.CONFIG: trial.setting.to_json(),
        keys.VERSIONS: json.dumps(versions()),
    }
    if sample is not None:
        row |= {
            keys.PATIENT: sample.patient,
            keys.MODALITY: sample.modality,
            keys.LABEL_SOURCE: sample.label_source,
            keys.ENCODER: sample.encoder,
            keys.FINGERPRINT: sample.fingerprint,
        }
    return row


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that a score depends on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


@functools.lru_cache(maxsize=2)
def _read(shard: str, genes: int) -> Sample:
    """A worker goes through one section's settings in turn, so the last shards read stay in memory."""
    return shards.read_sample(shard, genes)


def to_config(trial: Trial) -> dict[str, Any]:
    """The trial as plain values, as Tune carries it."""
    return asdict(trial)


def from_config(config: dict[str, Any]) -> Trial:
    """The inverse of `to_config`."""
    protocol = config["protocol"]
    pair = protocol["pair"]
    return Trial(
        **config
        | {
            "setting": Setting(**config["setting"]),
            "seeds": tuple(config["seeds"]),
            "protocol": Protocol(**protocol | {"pair": tuple(pair) if pair else None}),
        }
    )
