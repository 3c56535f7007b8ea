"""What is measured is what is meant, at small sizes; how long it takes is not asked here."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import ray

from senca_ray import keys
from senca_ray.analysis.rows import RowKey, check_rows, row_key
from senca_ray.bench import aggregator, fit, overhead, racing
from senca_ray.bench.burn import burn_trial
from senca_ray.bench.prepare import _Watch
from senca_ray.bench.rows import made_up_rows, made_up_trial
from senca_ray.bench.sections import FEATURES, SPOTS, write_patched, write_section
from senca_ray.config import Setting
from senca_ray.data.shards import read_sample
from senca_ray.fit.train import train
from senca_ray.study.trial import Trial


def keys_of(trial: Trial) -> list[RowKey]:
    return [row_key(key) for key in trial.keys()]  # noqa: SIM118  a trial is no mapping


def test_sections_with_and_without_image_are_as_large_as_the_figure_says(tmp_path: Path) -> None:
    addresses = fit.write_sections(str(tmp_path))
    image, rna = (read_sample(addresses[name], 500) for name in ("image", "rna"))
    assert image.counts.shape == rna.counts.shape == (SPOTS, 500) == (600, 500)
    assert image.label_count() == rna.label_count() == 6
    assert (image.modality, rna.modality) == (keys.RNA_IMAGE, keys.RNA)
    assert image.image_features is not None and image.image_features.shape == (SPOTS, FEATURES)


def test_made_up_rows_are_result_rows() -> None:
    trial = made_up_trial("senca", "setting=0", "A1", 15)
    rows = made_up_rows(trial, np.random.default_rng(0))
    assert len(check_rows(rows)) == 16
    assert len({row_key(row) for row in rows}) == 16
    assert rows[-1][keys.SEED] == keys.ALL_SEEDS and rows[-1][keys.N_SEEDS] == 15


def test_the_aggregator_figure_stores_ten_thousand_rows() -> None:
    size = (aggregator._SETTINGS, aggregator._SECTIONS, aggregator._SEEDS)
    batches = list(aggregator._batches(1, 2, aggregator._SEEDS))
    assert {len(batch) for batch in batches} == {16}
    assert size[0] * size[1] * len(aggregator._METHODS) * 16 == 10_000
    assert len({row_key(row) for batch in batches for row in batch}) == 16 * len(batches)


def test_a_burnt_trial_takes_cpu_time_and_gives_its_rows() -> None:
    trial = made_up_trial("senca", "trial=0", "A1", 1)
    before = time.thread_time()
    rows = burn_trial(trial, seconds=0.05, device="cpu", checkpoint=None)
    assert time.thread_time() - before >= 0.05
    assert [row_key(row) for row in check_rows(rows)] == keys_of(trial)


def test_stages_and_memory_of_a_fit(tmp_path: Path) -> None:
    measured = fit.fit_section(write_section(tmp_path, image=False))
    assert set(measured) == {"total", "embed", "cluster", "score", "memory"}
    assert all(value > 0 for value in measured.values())


def test_what_the_gpu_is_given_to_fine_tune_can_be_fine_tuned(tmp_path: Path) -> None:
    sample = read_sample(write_patched(tmp_path, pixels=32), 500, patches=True)
    setting = Setting(neighbors=2, epochs=1, finetune=True)
    assert len(train(sample.subset(np.arange(SPOTS) < 12), setting, 0).losses) == 1


def test_a_trial_of_seeds_against_plain_fits(tmp_path: Path) -> None:
    assert fit.loop_over_seeds(write_section(tmp_path, image=False), True, seeds=2) > 0


def test_the_plain_loop_runs_every_trial_in_other_processes() -> None:
    assert overhead.plain_loop(processes=1, trials=3, seconds=0.02) >= 3 * 0.02


def test_trials_differ_in_their_keys() -> None:
    burnt, fits = overhead.trials_of(4, None), overhead.trials_of(4, ["a", "b"])
    for trials, seeds in ((burnt, 1), (fits, overhead._SEEDS)):
        every = [key for trial in trials for key in keys_of(trial)]
        assert len(set(every)) == len(every) >= seeds * len(trials)
        assert {len(trial.seeds) for trial in trials} == {seeds}
    assert [trial.shard for trial in fits] == ["a", "b", "a", "b"]


@pytest.mark.usefixtures("local_ray")
class TestThroughRay:
    def test_the_engine_runs_every_trial(self) -> None:
        measured = overhead.through_engine(seconds=0.02, trials_a_core=2)
        assert measured["trials"] == 2 * measured["cpus"]
        assert 0 < measured["first"] <= measured["wall"]
        assert measured["wall"] >= 2 * 0.02

    def test_rates_and_summary_of_the_aggregator(self) -> None:
        measured = aggregator.store_and_summarise(settings=2, sections=3, seeds=2)
        assert set(measured) == {"rate", "rate_one", "summary"}
        assert all(value > 0 for value in measured.values())

    def test_the_largest_worker_is_seen(self) -> None:
        def fill() -> int:
            return len(bytearray(400 * 2**20))

        with _Watch() as watch:
            ray.get(ray.remote(fill).options(num_cpus=0).remote())
        assert watch.largest_mb > 400


def test_racing_is_replayed_on_tables_of_its_own_for_every_run() -> None:
    one, again, other = (racing.shares(8, seed, suggestions=5, replays=6) for seed in (0, 0, 1))
    assert one == again != other
    assert 0 < one[0] <= 1 and 0 <= one[1] <= 1


def test_only_for_twenty_four_patients_are_bounds_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(racing, "shares", lambda patients, seed: (0.5, 0.05))
    figures = {figure.name: figure for figure in racing.measure(1, lambda text: None)}
    assert figures["racing.24.run"].met is True
    assert figures["racing.24.lost"].met is False  # fewer than 5 %
    assert [name for name, figure in figures.items() if figure.bound] == ["racing.24.run", "racing.24.lost"]
