import dataclasses
import json

import numpy as np
import pytest

from senca_ray import keys
from senca_ray.analysis.results import check_rows
from senca_ray.config import Setting
from senca_ray.methods import METHODS
from senca_ray.methods.base import Embedding
from senca_ray.methods.run import Protocol
from senca_ray.study.trial import Trial, from_config, run_trial, to_config

SMALL = Setting(hvgs=30, embedding=16, hidden=16, bottleneck=8, epochs=2)


def trial(shard: str, **changes: object) -> Trial:
    base = Trial("s", "senca", "neighbors=4", SMALL, "T1", shard, (0, 1), Protocol())
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def scores(rows: list[dict]) -> list[tuple]:
    return [(r[keys.SEED], r[keys.ARI], r[keys.SILHOUETTE], r[keys.LOSS_LAST], r[keys.REGIONS]) for r in rows]


def test_each_seed_is_a_row_the_store_accepts(toy_shard: str) -> None:
    rows = run_trial(trial(toy_shard, protocol=Protocol(pair=("invasive cancer", "connective tissue"))))
    assert [r[keys.SEED] for r in rows] == [0, 1]
    assert len(check_rows(rows)) == 2
    assert all(r[keys.STATUS] == keys.OK and len(r[keys.REGIONS]) == 48 for r in rows)
    assert rows[0][keys.N_SPOTS] == 48 and rows[0][keys.N_SCORED] == 47  # one undetermined
    assert rows[0][keys.MODALITY] == keys.RNA and rows[0][keys.ENCODER] == "none"
    assert json.loads(rows[0][keys.CONFIG])["hvgs"] == 30
    assert rows[0][keys.PAIR_AMI] is not None


def test_the_same_seed_gives_the_same_scores_whatever_else_runs(toy_shard: str) -> None:
    both = scores(run_trial(trial(toy_shard)))
    alone = scores(run_trial(trial(toy_shard, seeds=(1,))))
    assert alone == both[1:]
    assert both[0] != both[1]


def test_a_prefix_of_a_full_shard_equals_a_shard_made_for_it(toy_shard: str) -> None:
    """Fitting with fewer genes and neighbours reads a prefix; the fit sees nothing else."""
    from senca_ray.data.shards import read_sample
    from senca_ray.methods.run import run

    setting = dataclasses.replace(SMALL, hvgs=20, neighbors=4)
    part, full = read_sample(toy_shard, 20), read_sample(toy_shard, 10_000)
    part = dataclasses.replace(part, neighbors=part.neighbors[:, :10].copy())
    a, b = (run(METHODS["senca"], s, setting, 0, Protocol()) for s in (part, full))
    np.testing.assert_array_equal(a.embedding.values, b.embedding.values)
    assert a.scores[keys.ARI] == b.scores[keys.ARI]


def test_a_fit_that_raises_is_a_failed_row_and_the_others_go_on(
    toy_shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = METHODS["senca"].embed

    def breaks(sample: object, setting: object, seed: int) -> Embedding:
        if seed == 0:
            raise RuntimeError("broken on purpose")
        return honest(sample, setting, seed)  # type: ignore[arg-type]

    monkeypatch.setattr(METHODS["senca"], "embed", breaks)
    rows = run_trial(trial(toy_shard))
    assert [r[keys.STATUS] for r in rows] == [keys.FAILED, keys.OK]
    assert rows[0][keys.REASON] == "RuntimeError: broken on purpose"
    assert len(check_rows(rows)) == 2


def test_a_shard_that_is_gone_fails_every_seed_with_the_reason(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = run_trial(trial(str(tmp_path_factory.mktemp("empty"))))
    assert [r[keys.STATUS] for r in rows] == [keys.FAILED] * 2
    assert "not a shard" in rows[0][keys.REASON]
    assert len(check_rows(rows)) == 2


def test_a_control_without_its_modality_fails_with_the_reason(toy_shard: str) -> None:
    rows = run_trial(trial(toy_shard, method="smoothed-image", label="fixed", seeds=(0,)))
    assert "needs an image" in rows[0][keys.REASON]


def test_a_trial_survives_the_way_through_tune(toy_shard: str) -> None:
    given = trial(toy_shard, protocol=Protocol("fixed:3", "average", ("a", "b")))
    assert from_config(json.loads(json.dumps(to_config(given)))) == given
