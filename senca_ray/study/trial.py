"""A trial: one method at one setting on one section, with all its seeds. No Ray in here."""

from __future__ import annotations

import functools
import importlib.metadata
import json
from dataclasses import asdict, dataclass
from typing import Any

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.form import form_of
from senca_ray.methods import method
from senca_ray.methods.base import followed
from senca_ray.methods.protocol import Protocol

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
    also: tuple[Protocol, ...] = ()
    """Other readings of the same fits; each gives rows of its own. No two may have the same key columns."""

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """All readings of a fit."""
        return (self.protocol, *self.also)

    def key(self, seed: int, protocol: Protocol) -> dict[str, Any]:
        """The columns that identify the result row of one seed, or of the consensus (keys.ALL_SEEDS)."""
        own = protocol.clustering_of(method(self.method))
        return {
            keys.STUDY: self.study,
            keys.METHOD: self.method,
            keys.SETTING: self.label,
            keys.SAMPLE: self.sample,
            keys.SEED: seed,
            keys.CLUSTERING: keys.CONSENSUS if seed == keys.ALL_SEEDS else own,
            keys.K_POLICY: protocol.k_policy,
            keys.PROTOCOL: protocol.handling,
        }

    def keys(self) -> list[dict[str, Any]]:
        """The key columns of every row that the trial ends with: those of its seeds, then their consensus.

        One seed alone has no consensus, nor has any reading but the first.
        """
        found = [self.key(seed, protocol) for seed in self.seeds for protocol in self.protocols]
        return [*found, self.key(keys.ALL_SEEDS, self.protocol)] if len(self.seeds) > 1 else found


class OutOfMemory(SencaError):
    """A GPU's memory was too little for a trial, which may fit with a larger share of the card."""


def failed_rows(trial: Trial, reason: str) -> list[dict[str, Any]]:
    """The rows of a trial that failed as a whole, one for each of its keys."""
    every = trial.keys()
    return [failed_row(trial_row(trial, key, None, "cpu"), reason) for key in every]


def failed_row(row: dict[str, Any], reason: str) -> dict[str, Any]:
    """The row with a failure's reason in place of a result."""
    return row | {keys.STATUS: keys.FAILED, keys.REASON: reason}


def trial_row(trial: Trial, key: dict[str, Any], sample: Sample | None, device: str) -> dict[str, Any]:
    """What a row of these key columns says before there is a result; of a sample that was read, more."""
    pair, used = trial.protocol.pair, method(trial.method)
    own = json.dumps(dict(used.settings), sort_keys=True)
    row = key | {
        keys.PAIR: json.dumps(pair) if pair else None,
        keys.DEVICE: device,
        keys.CONFIG: followed(used, trial.setting).to_json() if used.follows_setting else own,
        keys.VERSIONS: json.dumps(versions()),
    }
    if sample is not None:
        row |= {
            keys.PATIENT: sample.patient,
            keys.MODALITY: sample.modality,
            keys.LABEL_SOURCE: sample.label_source,
            keys.ENCODER: sample.encoder,
            keys.FORM: form_of(trial.setting, len(sample.xy)),
            keys.FINGERPRINT: sample.fingerprint,
        }
    return row


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that a score depends on."""
    return {name: found for name in _PACKAGES if (found := _version(name))}


def _version(package: str) -> str | None:
    # On a bare GPU machine the package runs from its source tree, without Ray.
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def to_config(trial: Trial) -> dict[str, Any]:
    """The trial as plain values, as Tune carries it."""
    return asdict(trial)


def from_config(config: dict[str, Any]) -> Trial:
    """The inverse of `to_config`."""
    return Trial(
        **config
        | {
            "setting": Setting(**config["setting"]),
            "seeds": tuple(config["seeds"]),
            "protocol": Protocol.read(config["protocol"]),
            "also": tuple(map(Protocol.read, config["also"])),
        }
    )
