import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from senca_ray import keys
from senca_ray.analysis.rows import check_rows
from senca_ray.config import Setting
from senca_ray.errors import SencaError
from senca_ray.fit.consensus import consensus, stability
from senca_ray.methods import METHODS
from senca_ray.methods.base import Embedding
from senca_ray.methods.protocol import Protocol
from senca_ray.study.checkpoint import TrialCheckpoint
from senca_ray.study.trial import OutOfMemory, Trial, failed_rows, from_config, run_trial, to_config

SMALL = Setting(hvgs=30, embedding=16, hidden=16, bottleneck=8, epochs=2)


def trial(shard: str, **changes: object) -> Trial:
    base = Trial("s", "senca", "neighbors=4", SMALL, "T1", shard, (0, 1), Protocol())
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def scores(rows: list[dict]) -> list[tuple]:
    columns = (keys.SEED, keys.ARI, keys.SILHOUETTE, keys.LOSS_LAST, keys.REGIONS)
    return [tuple(r[name] for name in columns) for r in rows if r[keys.SEED] != keys.ALL_SEEDS]


def test_each_seed_is_a_row_the_store_accepts(toy_shard: str) -> None:
    rows = run_trial(trial(toy_shard, protocol=Protocol(pair=("invasive cancer", "connective tissue"))))
    assert [r[keys.SEED] for r in rows] == [0, 1, keys.ALL_SEEDS]
    assert len(check_rows(rows)) == 3
    assert all(r[keys.STATUS] == keys.OK and len(r[keys.REGIONS]) == 48 for r in rows)
    assert rows[0][keys.N_SPOTS] == 48 and rows[0][keys.N_SCORED] == 47  # one undetermined
    assert rows[0][keys.MODALITY] == keys.RNA and rows[0][keys.ENCODER] == "none"
    assert json.loads(rows[0][keys.CONFIG])["hvgs"] == 30
    assert rows[0][keys.PAIR_AMI] is not None


def test_the_same_seed_gives_the_same_scores_whatever_else_runs(toy_shard: str) -> None:
    both = scores(run_trial(trial(toy_shard)))
    alone = scores(run_trial(trial(toy_shard, seeds=(1,))))
    assert alone == both[1:2]
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


@pytest.mark.parametrize("kind", [RuntimeError, MemoryError])
def test_a_fit_that_raises_is_a_failed_row_and_the_others_go_on(
    kind: type[Exception], toy_shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = METHODS["senca"].embed

    def breaks(sample: Any, setting: Any, seed: int, *more: Any) -> Embedding:
        if seed in (0, 2):
            raise kind("broken on purpose")
        return honest(sample, setting, seed, *more)

    monkeypatch.setattr(METHODS["senca"], "embed", breaks)
    rows = run_trial(trial(toy_shard, seeds=(0, 1, 2)))
    assert [r[keys.STATUS] for r in rows] == [keys.FAILED, keys.OK, keys.FAILED, keys.FAILED]
    assert rows[0][keys.REASON] == f"{kind.__name__}: broken on purpose"
    assert rows[3][keys.REASON] == "no consensus, because of failed seeds: 0, 2 of 3"
    assert len(check_rows(rows)) == 4


def test_a_shard_that_is_gone_fails_every_seed_with_the_reason(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = run_trial(trial(str(tmp_path_factory.mktemp("empty"))))
    assert [r[keys.STATUS] for r in rows] == [keys.FAILED] * 3
    assert all("not a shard" in r[keys.REASON] for r in rows)
    assert len(check_rows(rows)) == 3


def test_a_control_without_its_modality_fails_with_the_reason(toy_shard: str) -> None:
    rows = run_trial(trial(toy_shard, method="smoothed-image", label="fixed", seeds=(0,)))
    assert "needs an image" in rows[0][keys.REASON]


def test_a_trial_survives_the_way_through_tune(toy_shard: str) -> None:
    given = trial(toy_shard, protocol=Protocol("fixed:3", "average", ("a", "b")))
    assert from_config(json.loads(json.dumps(to_config(given)))) == given


@pytest.mark.parametrize("method", ["senca", "untrained", "coordinates"])
def test_two_seeds_or_more_end_with_their_consensus(method: str, toy_shard: str) -> None:
    given = trial(toy_shard, method=method, seeds=(0, 1, 2), protocol=Protocol("fixed:3"))
    *seeds, row = run_trial(given)
    partitions = [np.array(r[keys.REGIONS]) for r in seeds]
    assert row[keys.REGIONS] == consensus(partitions, 3).tolist() and row[keys.K] == 3
    assert row[keys.STABILITY] == stability(partitions) and row[keys.N_SEEDS] == 3
    assert row[keys.CLUSTERING] == keys.CONSENSUS and row[keys.SEED] == keys.ALL_SEEDS
    (checked,) = check_rows([row])
    assert checked[keys.SILHOUETTE] is None and checked[keys.LOSS_LAST] is None
    assert None not in (checked[keys.ARI], checked[keys.NMI], checked[keys.CHAOS], checked[keys.PAS])
    assert all(keys.STABILITY not in r and keys.N_SEEDS not in r for r in seeds)


def test_under_the_policy_auto_the_consensus_has_the_median_k(
    toy_shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([2, 5, 3, 4])
    monkeypatch.setattr("senca_ray.methods.run.choose_k", lambda *_: next(found))
    rows = run_trial(trial(toy_shard, seeds=(0, 1, 2, 3), protocol=Protocol("auto")))
    assert [r[keys.K] for r in rows] == [2, 5, 3, 4, 3]  # the median is 3.5
    assert len(set(rows[-1][keys.REGIONS])) == 3


@pytest.mark.parametrize("seeds", [(4,), (4, 2)])
def test_a_trial_names_the_rows_that_it_ends_with(seeds: tuple[int, ...], toy_shard: str) -> None:
    given = trial(toy_shard, seeds=seeds)
    for rows in (run_trial(given), failed_rows(given, "its worker was lost")):
        assert [{name: row[name] for name in keys.ROW_KEY} for row in rows] == given.keys()
        check_rows(rows)
    assert {row[keys.REASON] for row in rows} == {"its worker was lost"}


def test_a_consensus_that_cannot_be_computed_leaves_the_seeds_their_rows(
    toy_shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise MemoryError("49 GiB asked for")

    monkeypatch.setattr("senca_ray.study.trial.consensus", too_large)
    rows = run_trial(trial(toy_shard))
    assert [r[keys.STATUS] for r in rows] == [keys.OK, keys.OK, keys.FAILED]
    assert rows[2][keys.REASON] == "MemoryError: 49 GiB asked for"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GPU is its CPU."""
    import torch

    honest = METHODS["senca"].embed_batch  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 300 * 2**20)
    monkeypatch.setattr(
        METHODS["senca"],
        "embed_batch",
        lambda sample, setting, seeds, device, checkpoint: honest(sample, setting, seeds, "cpu", checkpoint),
    )


@pytest.mark.usefixtures("gpu")
def test_rows_say_on_what_they_were_computed(toy_shard: str) -> None:
    rows = run_trial(trial(toy_shard), device="cuda")
    assert [r[keys.DEVICE] for r in rows] == ["cuda", "cuda", "cpu"]
    assert rows[0][keys.PEAK_MEMORY_MB] == rows[1][keys.PEAK_MEMORY_MB] == 300
    control = run_trial(trial(toy_shard, method="coordinates", label="fixed"), device="cuda")
    assert {r[keys.DEVICE] for r in control} == {"cpu"}
    assert len(check_rows(rows)) == 3


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("name", "text", "raised"),
    [
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB", True),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", True),
        ("RuntimeError", "CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_too_little_memory_on_a_gpu_is_no_result(
    name: str, text: str, raised: bool, toy_shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    kind = getattr(torch, name, RuntimeError)

    def full(*_: object) -> None:
        raise kind(text)

    monkeypatch.setattr(METHODS["senca"], "embed_batch", full)
    if raised:
        with pytest.raises(OutOfMemory, match=r"senca on T1: the GPU's memory ran out \(CUDA"):
            run_trial(trial(toy_shard), device="cuda")
    else:
        assert {r[keys.STATUS] for r in run_trial(trial(toy_shard), device="cuda")} == {keys.FAILED}


def comparable(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    measured = {keys.SECONDS: 0.0, keys.PEAK_MEMORY_MB: 0.0}
    return check_rows([row | measured for row in rows])


@pytest.mark.parametrize("in_epoch", [None, 1], ids=["between seeds", "within the second seed"])
def test_an_interrupted_trial_goes_on_with_the_same_rows_and_fits_no_seed_twice(
    in_epoch: int | None, toy_shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, path = METHODS["senca"], tmp_path / "checkpoints" / "trial.pt"
    honest, fitted = method.embed, []

    def noted(sample: Any, setting: Any, seed: int, device: str, checkpoint: Any) -> Embedding:
        fitted.append(seed)
        if interrupting and seed == 1:
            if in_epoch is None:
                raise KeyboardInterrupt
            checkpoint.save, save = lambda state: (save(state), interrupt()), checkpoint.save
        return honest(sample, setting, seed, device, checkpoint)  # type: ignore[call-arg]

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(method, "embed", noted)
    given, interrupting = trial(toy_shard, seeds=(0, 1, 2)), True
    with pytest.raises(KeyboardInterrupt):
        run_trial(given, checkpoint=TrialCheckpoint(path, interval=0))
    interrupting, fitted[:] = False, []
    resumed = TrialCheckpoint(path, interval=0)
    rows = run_trial(given, checkpoint=resumed)
    assert fitted == [1, 2]
    assert comparable(rows) == comparable(run_trial(given))
    resumed.remove()
    assert list(path.parent.iterdir()) == []


def test_a_checkpoint_of_another_trial_is_not_gone_on_from(toy_shard: str, tmp_path: Path) -> None:
    path = tmp_path / "trial.pt"
    run_trial(trial(toy_shard), checkpoint=TrialCheckpoint(path, interval=0))
    other = dataclasses.replace(SMALL, learning_rate=1e-2)
    for changed in (
        trial(toy_shard, setting=other),
        trial(toy_shard, protocol=Protocol("fixed:3")),
        trial(toy_shard, protocol=Protocol(clustering="average")),
        trial(toy_shard, study="another"),
    ):
        rows = run_trial(changed, checkpoint=TrialCheckpoint(path, interval=1000))
        assert comparable(rows) == comparable(run_trial(changed))


def test_a_trial_without_a_long_fit_writes_nothing(toy_shard: str, tmp_path: Path) -> None:
    run_trial(trial(toy_shard), checkpoint=TrialCheckpoint(tmp_path / "trial.pt"))
    assert list(tmp_path.glob("*.pt")) == []


def test_out_of_memory_can_cross_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(OutOfMemory("full")))
    assert isinstance(error, OutOfMemory) and isinstance(error, SencaError) and str(error) == "full"
