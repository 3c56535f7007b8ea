import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_encoder import ASKED, load_tiny
from toys import toy_content, toy_section

from senca_ray import keys
from senca_ray.analysis.rows import check_rows
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.data.shards import read_sample, write_shard
from senca_ray.errors import SencaError
from senca_ray.fit.consensus import agreement, consensus, stability, typical
from senca_ray.fit.scores import score
from senca_ray.methods import METHODS, Method, RegionMethod, method
from senca_ray.methods.base import Embedding
from senca_ray.methods.protocol import Protocol
from senca_ray.methods.run import run
from senca_ray.study.checkpoint import TrialCheckpoint
from senca_ray.study.run_trial import run_trial
from senca_ray.study.trial import OutOfMemory, Trial, failed_rows, from_config, to_config

SMALL = Setting(hvgs=30, embedding=16, hidden=16, bottleneck=8, epochs=2)


def checked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as the store takes them: an embedding becomes a file of its own."""
    return check_rows([{n: value for n, value in row.items() if n != keys.EMBEDDING} for row in rows])


def trial(shard: str, **changes: object) -> Trial:
    base = Trial("s", "senca", "neighbors=4", SMALL, "T1", shard, (0, 1), Protocol())
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def scores(rows: list[dict]) -> list[tuple]:
    columns = (keys.SEED, keys.ARI, keys.SILHOUETTE, keys.LOSS_LAST, keys.REGIONS)
    return [tuple(r[name] for name in columns) for r in rows if r[keys.SEED] != keys.ALL_SEEDS]


def test_each_seed_is_a_row_the_store_accepts(toy_shard: str) -> None:
    rows = run_trial(trial(toy_shard, protocol=Protocol(pair=("invasive cancer", "connective tissue"))))
    assert [r[keys.SEED] for r in rows] == [0, 1, keys.ALL_SEEDS]
    assert len(checked(rows)) == 3
    assert all(r[keys.STATUS] == keys.OK and len(r[keys.REGIONS]) == 48 for r in rows)
    assert rows[0][keys.N_SPOTS] == 48 and rows[0][keys.N_SCORED] == 47  # one undetermined
    assert rows[0][keys.MODALITY] == keys.RNA and rows[0][keys.ENCODER] == "none"
    assert json.loads(rows[0][keys.CONFIG])["hvgs"] == 30
    assert rows[0][keys.PAIR_AMI] is not None
    assert {row[keys.FORM] for row in rows} == {keys.EXACT}


def test_the_large_form_is_named_in_every_row(toy_shard: str) -> None:
    large = trial(toy_shard, setting=dataclasses.replace(SMALL, form="large"))
    rows = run_trial(large)
    assert [row[keys.STATUS] for row in checked(rows)] == [keys.OK] * 3
    assert {row[keys.FORM] for row in rows} == {keys.LARGE}
    simple = run_trial(dataclasses.replace(large, method="smoothed-pca", protocol=Protocol(k_policy="auto")))
    assert [(row[keys.STATUS], row[keys.FORM]) for row in simple] == [(keys.OK, keys.LARGE)] * 3


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
    assert len(checked(rows)) == 4


def test_a_shard_that_is_gone_fails_every_seed_with_the_reason(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = run_trial(trial(str(tmp_path_factory.mktemp("empty"))))
    assert [r[keys.STATUS] for r in rows] == [keys.FAILED] * 3
    assert all("not a shard" in r[keys.REASON] for r in rows)
    assert len(checked(rows)) == 3


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
    assert row[keys.STABILITY] == stability(agreement(partitions)) and row[keys.N_SEEDS] == 3
    assert row[keys.CLUSTERING] == keys.CONSENSUS and row[keys.SEED] == keys.ALL_SEEDS
    (kept,) = checked([row])
    assert kept[keys.SILHOUETTE] is None and kept[keys.LOSS_LAST] is None
    assert None not in (kept[keys.ARI], kept[keys.NMI], kept[keys.CHAOS], kept[keys.PAS])
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
        checked(rows)
    assert {row[keys.REASON] for row in rows} == {"its worker was lost"}


def test_a_consensus_that_cannot_be_computed_leaves_the_seeds_their_rows(
    toy_shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise MemoryError("49 GiB asked for")

    monkeypatch.setattr("senca_ray.study.run_trial.consensus", too_large)
    rows = run_trial(trial(toy_shard))
    assert [r[keys.STATUS] for r in rows] == [keys.OK, keys.OK, keys.FAILED]
    assert rows[2][keys.REASON] == "MemoryError: 49 GiB asked for"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GPU is its CPU."""
    import torch

    honest = METHODS["senca"].embed_batch  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 300 * 2**20)
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
    assert len(checked(rows)) == 3


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
    return checked([row | measured for row in rows])


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


def test_the_embedding_of_a_seed_fitted_before_an_interruption_is_made_again(
    toy_shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("senca_ray.study.run_trial.typical", lambda pairs: 0)
    given, path = trial(toy_shard), tmp_path / "trial.pt"
    whole = run_trial(given, checkpoint=TrialCheckpoint(path, interval=0))
    resumed = run_trial(given, checkpoint=TrialCheckpoint(path, interval=0))
    assert comparable(resumed) == comparable(whole)
    np.testing.assert_array_equal(resumed[0][keys.EMBEDDING], whole[0][keys.EMBEDDING])


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


# --- Several readings of the same fits -----------------------------------------------------------------

ALSO = (
    Protocol(clustering="average", own=False),
    Protocol("fixed:4"),
    Protocol(undetermined=keys.DROPPED),
    Protocol(undetermined=keys.SCORED),
)
READINGS = ["ward/labels/unscored", "average/labels/unscored", "ward/fixed:4/unscored"]
READINGS += ["ward/labels/dropped", "ward/labels/scored"]


def reading(row: dict[str, Any]) -> str:
    return "/".join(row[name] for name in (keys.CLUSTERING, keys.K_POLICY, keys.PROTOCOL))


def test_every_reading_of_a_fit_has_its_row(toy_shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, honest = [], METHODS["senca"].embed
    monkeypatch.setattr(METHODS["senca"], "embed", lambda *given: fitted.append(given[2]) or honest(*given))
    given = trial(toy_shard, also=ALSO)
    rows = run_trial(given)
    assert fitted == [0, 1]
    assert [{name: row[name] for name in keys.ROW_KEY} for row in rows] == given.keys()
    assert len(checked(rows)) == len({tuple(row[name] for name in keys.ROW_KEY) for row in rows}) == 11
    assert [reading(row) for row in rows] == 2 * READINGS + ["consensus/labels/unscored"]
    assert [row[keys.K] for row in rows[:5]] == [2, 2, 4, 2, 2]
    assert [row[keys.N_SCORED] for row in rows[:5]] == [47, 47, 47, 47, 48]
    assert {row[keys.LOSS_LAST] for row in rows[:5]} == {rows[0][keys.LOSS_LAST]}
    # The study's own reading is the same whatever else is read.
    alone = run_trial(trial(toy_shard))
    assert scores(alone) == scores([row for row in rows if reading(row) == READINGS[0]])
    assert alone[-1][keys.REGIONS] == rows[-1][keys.REGIONS]


def test_a_trial_that_fails_as_a_whole_fails_every_reading(toy_shard: str) -> None:
    given = trial(toy_shard, also=ALSO)
    rows = failed_rows(given, "its worker was lost")
    assert [{name: row[name] for name in keys.ROW_KEY} for row in rows] == given.keys()
    assert len(checked(rows)) == 11


def test_a_method_that_is_not_installed_fails_every_reading_with_the_command(
    toy_shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METHODS["senca"], "missing", lambda: "`senca methods install senca`", raising=False)
    rows = run_trial(trial(toy_shard, also=ALSO))
    assert len(checked(rows)) == 11 and {row[keys.STATUS] for row in rows} == {keys.FAILED}
    assert {row[keys.REASON] for row in rows[:-1]} == {"`senca methods install senca`"}
    assert rows[-1][keys.REASON] == "no consensus, because of failed seeds: 0, 1 of 2"
    assert {row[keys.PATIENT] for row in rows} == {"T"}, "what is known of the section is there"


@pytest.mark.parametrize("also", [(), ALSO, (Protocol(clustering=keys.OWN, own=False, refined=True),)])
def test_all_readings_survive_the_way_through_tune(toy_shard: str, also: tuple[Protocol, ...]) -> None:
    given = trial(toy_shard, protocol=Protocol("auto", pair=("a", "b"), undetermined="dropped"), also=also)
    assert from_config(json.loads(json.dumps(to_config(given)))) == given


def test_a_consensus_leaves_out_the_spots_that_were_left_out_of_clustering(toy_shard: str) -> None:
    pair = ("invasive cancer", "connective tissue")
    given = trial(toy_shard, seeds=(0, 1, 2), protocol=Protocol(pair=pair, undetermined=keys.DROPPED))
    *seeds, row = run_trial(given)
    sample = read_sample(toy_shard, 30)
    kept = sample.labels != keys.UNDETERMINED
    for one in (*seeds, row):
        regions = np.array(one[keys.REGIONS])
        np.testing.assert_array_equal(regions == keys.NO_REGION, ~kept)
        assert (one[keys.N_SPOTS], one[keys.N_SCORED]) == (47, 47)
    partitions = [np.array(one[keys.REGIONS])[kept] for one in seeds]
    agreed = consensus(partitions, 2)
    assert np.array(row[keys.REGIONS])[kept].tolist() == agreed.tolist()
    assert row[keys.STABILITY] == stability(agreement(partitions))
    expected = score(sample.subset(kept), None, agreed, pair)
    for name in (keys.ARI, keys.NMI, keys.CHAOS, keys.PAS, keys.PAIR_AMI):
        assert row[name] == expected[name]
    checked([*seeds, row])


def test_a_consensus_is_scored_as_the_seeds_are(toy_shard: str) -> None:
    rows = run_trial(trial(toy_shard, protocol=Protocol(undetermined=keys.SCORED)))
    assert [row[keys.N_SCORED] for row in rows] == [48, 48, 48]
    assert all(keys.UNDETERMINED in json.loads(row[keys.LABEL_F1]) for row in rows)


class Counting(Method):
    """A toy of fixed positions that counts its fits; the second one can be interrupted."""

    name, title = "counting", "a toy"
    settings = {"bins": 3, "scale": [1, 2.5]}  # noqa: RUF012

    def __init__(self) -> None:
        self.fitted: list[int] = []
        self.interrupting = False

    def genes_needed(self, setting: Setting) -> int:
        return 1

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        if self.interrupting and seed == 1:
            raise KeyboardInterrupt
        self.fitted.append(seed)
        return Embedding(np.random.default_rng(seed).normal(size=(len(sample.xy), 2)))


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    method = Counting()
    monkeypatch.setitem(METHODS, "counting", method)
    return method


def test_a_seed_comes_back_from_a_checkpoint_with_all_its_readings(
    toy_shard: str, tmp_path: Path, counting: Counting
) -> None:
    given = trial(toy_shard, method="counting", seeds=(0, 1, 2), also=ALSO)
    path = tmp_path / "trial.pt"
    counting.interrupting = True
    with pytest.raises(KeyboardInterrupt):
        run_trial(given, checkpoint=TrialCheckpoint(path, interval=0))
    assert len(TrialCheckpoint(path).begin(_identity_in(path))) == 5
    counting.interrupting, counting.fitted[:] = False, []
    rows = run_trial(given, checkpoint=TrialCheckpoint(path, interval=0))
    assert counting.fitted == [1, 2]
    assert comparable(rows) == comparable(run_trial(given))
    assert [{name: row[name] for name in keys.ROW_KEY} for row in rows] == given.keys()


def _identity_in(path: Path) -> str:
    import torch

    return str(torch.load(path, weights_only=True)["identity"])


def test_a_checkpoint_with_other_readings_is_not_gone_on_from(
    toy_shard: str, tmp_path: Path, counting: Counting
) -> None:
    """Its seeds lack rows, or have some that nobody asked for."""
    path = tmp_path / "trial.pt"
    given = trial(toy_shard, method="counting", also=ALSO[:2])
    run_trial(given, checkpoint=TrialCheckpoint(path, interval=0))
    for also in ((), ALSO[:1], ALSO[1::-1], ALSO[:3]):
        counting.fitted.clear()
        changed = dataclasses.replace(given, also=also)
        rows = run_trial(changed, checkpoint=TrialCheckpoint(path, interval=1000))
        assert counting.fitted == [0, 1]
        assert [{name: row[name] for name in keys.ROW_KEY} for row in rows] == changed.keys()


def test_a_row_names_the_settings_that_its_method_was_run_with(toy_shard: str, counting: Counting) -> None:
    for name in ("senca", "untrained"):
        rows = run_trial(trial(toy_shard, method=name))
        assert {row[keys.CONFIG] for row in rows} == {SMALL.to_json()}
    for given in (trial(toy_shard, method="counting"), trial(toy_shard + "-gone", method="counting")):
        assert {row[keys.CONFIG] for row in run_trial(given)} == {'{"bins": 3, "scale": [1, 2.5]}'}
    assert json.loads(run_trial(trial(toy_shard, method="coordinates"))[0][keys.CONFIG]) == {}


class Told(RegionMethod):
    """A toy that has to be told k and reads no expression."""

    name, title, clusterings = "told", "a toy", (keys.OWN,)

    def genes_needed(self, setting: Setting) -> int:
        return 1

    def segment(self, sample: Sample, setting: Setting, seed: int, k: int) -> Embedding:
        return Embedding(sample.xy, regions=np.arange(len(sample.xy)) % k)


def test_rows_of_a_method_with_regions_of_its_own_say_so(
    toy_shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "told", Told())
    rows = run_trial(trial(toy_shard, method="told", also=(Protocol("fixed:5"),)))
    assert len(checked(rows)) == 5
    assert [row[keys.CLUSTERING] for row in rows] == [keys.OWN] * 4 + [keys.CONSENSUS]
    assert [row[keys.K] for row in rows] == [2, 5, 2, 5, 2]


def test_a_k_chosen_beforehand_does_not_depend_on_the_genes_that_a_method_reads(
    toy_shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    chosen = METHODS["smoothed-pca"].embed
    monkeypatch.setattr(
        type(METHODS["smoothed-pca"]),
        "embed",
        lambda self, sample, *more: seen.append(len(sample.genes)) or chosen(sample, *more),
    )
    monkeypatch.setitem(METHODS, "told", Told())
    (row,) = run_trial(trial(toy_shard, method="told", seeds=(0,), protocol=Protocol("auto")))
    (simple,) = run_trial(trial(toy_shard, method="smoothed-pca", seeds=(0,), protocol=Protocol("auto")))
    assert row[keys.STATUS] == simple[keys.STATUS] == keys.OK
    assert seen[0] == seen[1]


def test_the_row_of_the_typical_seed_carries_its_embedding(toy_shard: str) -> None:
    rows = run_trial(trial(toy_shard, seeds=(0, 1, 2)))
    marked = [row for row in rows if row.get(keys.TYPICAL)]
    (shown,) = marked
    partitions = [np.array(row[keys.REGIONS]) for row in rows[:3]]
    assert shown is rows[typical(agreement(partitions))]
    assert [keys.EMBEDDING in row for row in rows] == [row is shown for row in rows]
    alone = run(method("senca"), read_sample(toy_shard, 10_000), SMALL, shown[keys.SEED], Protocol())
    np.testing.assert_array_equal(shown[keys.EMBEDDING], alone.embedding.values.astype(np.float32))
    assert shown[keys.LOSSES] == list(alone.embedding.losses) and len(shown[keys.LOSSES]) == SMALL.epochs


def test_what_follows_from_the_section_at_once_keeps_no_embedding(toy_shard: str) -> None:
    rows = run_trial(trial(toy_shard, method="pca", label="fixed"))
    assert [row.get(keys.TYPICAL) for row in rows] == [True, False, None]
    assert not any(keys.EMBEDDING in row for row in rows)
    assert rows[0][keys.LOSSES] == []


def image_shard(folder: Path, patches: bool) -> str:
    """A shard with features of a tiny encoder, and the patches that fine-tuning reads."""
    encoder, rng = load_tiny(ASKED, None, "cpu", "float32"), np.random.default_rng(0)
    seen = rng.integers(0, 256, (16, 32, 32, 3)).astype(np.uint8)
    content = toy_content(toy_section(folder / "raw", columns=4, rows=4), max_neighbors=12)
    about = {
        "modality": keys.RNA_IMAGE,
        "encoder": encoder.name,
        "encoders": [{"asked": ASKED, "name": encoder.name, "key": "0"}],
    }
    held = {"image_features": encoder.features(seen), "patches": seen if patches else None}
    return str(write_shard(folder / "s", dataclasses.replace(content, meta=content.meta | about, **held)))  # type: ignore[arg-type]


def test_fine_tuning_is_one_setting_away_and_rows_say_what_was_tuned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("senca_ray.fit.finetune.load_encoder", load_tiny)
    tuned = dataclasses.replace(SMALL, finetune=True)
    given = trial(image_shard(tmp_path, patches=True), setting=tuned, seeds=(0,))
    (row,) = checked(run_trial(given))
    assert row[keys.STATUS] == keys.OK and json.loads(row[keys.CONFIG])["finetune"] is True
    (frozen,) = checked(run_trial(dataclasses.replace(given, setting=SMALL)))
    assert row[keys.LOSS_FIRST] == pytest.approx(frozen[keys.LOSS_FIRST], rel=1e-5)
    assert row[keys.LOSS_LAST] != frozen[keys.LOSS_LAST]
    (control,) = checked(run_trial(dataclasses.replace(given, method="untrained")))
    (same,) = checked(run_trial(dataclasses.replace(given, method="untrained", setting=SMALL)))
    # Nothing was tuned there, and it is the network that fine-tuning starts from.
    assert control[keys.CONFIG] == same[keys.CONFIG] and control[keys.REGIONS] == same[keys.REGIONS]


def test_fine_tuning_without_patches_fails_with_the_fix(tmp_path: Path) -> None:
    given = trial(image_shard(tmp_path, patches=False), setting=dataclasses.replace(SMALL, finetune=True))
    rows = run_trial(given)
    assert all("`senca prepare DATA --patches`" in row[keys.REASON] for row in rows)
    control = run_trial(dataclasses.replace(given, method="untrained"))
    assert {row[keys.STATUS] for row in control} == {keys.OK}
