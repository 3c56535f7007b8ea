"""One section's fit as an AnnData file."""

from __future__ import annotations

import json
from pathlib import Path

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import ALL_GENES
from senca_ray.data.shards import read_display, read_sample
from senca_ray.export.table import section_table
from senca_ray.files import write_whole
from senca_ray.methods import method
from senca_ray.methods.base import finetunes, followed
from senca_ray.methods.protocol import Protocol
from senca_ray.methods.run import Outcome, run


def fit_to_h5ad(
    shard: str, out: Path | None, name: str, setting: Setting, seed: int, protocol: Protocol
) -> str:
    """Fit one section and write its h5ad; returns what was done, in words.

    X holds the raw counts of every gene of the shard, obs the region and label of each spot, obsm the
    embedding and the positions in spot distances. Raises SencaError.
    """
    used = method(name)
    sample = read_sample(shard, ALL_GENES, setting.encoder, finetunes(used, setting))
    outcome = run(used, sample, setting, seed, protocol)
    about = {
        "method": name,
        "setting": followed(used, setting).to_json(),
        "seed": seed,
        "k_policy": protocol.k_policy,
        "clustering": protocol.clustering_of(used),
        "scores": json.dumps(outcome.scores),
    }
    data = section_table(sample, read_display(shard).spots, outcome.regions, about)
    data.obsm[keys.OBSM_SENCA] = outcome.embedding.values
    data.obsm[keys.OBSM_SPATIAL] = sample.xy
    path = out or Path(f"{sample.name}.h5ad")
    write_whole(path, data.write_h5ad)
    return _words(outcome, sample.name, sample.modality, name, seed, protocol, path)


def _words(
    outcome: Outcome, sample: str, modality: str, name: str, seed: int, protocol: Protocol, path: Path
) -> str:
    ari = outcome.scores[keys.ARI]
    score = "no labels, no ARI" if ari is None or ari != ari else f"ARI {ari:.3f}"
    scored, spots = outcome.scores[keys.N_SCORED], outcome.scores[keys.N_SPOTS]
    return (
        f"{sample} ({modality}): {name}, seed {seed}, k = {outcome.k} ({protocol.k_policy}), {score} "
        f"on {scored} of {spots} spots, {outcome.seconds:.1f} s: {path}"
    )
