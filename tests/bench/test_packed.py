from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest

from senca_ray import keys
from senca_ray.bench import gpu, packed
from senca_ray.bench.rows import made_up_trial
from senca_ray.bench.sections import write_section
from senca_ray.errors import SencaError

TIMES = [(0.0, 10.0), (1.0, 4.0), (2.0, 3.0), (4.0, 6.0)]


def test_most_at_once() -> None:
    assert packed.most_at_once(TIMES) == 3
    assert packed.most_at_once(TIMES[:1]) == 1
    assert packed.most_at_once([(0.0, 1.0), (1.0, 2.0)]) == 1


def test_busy_counts_only_while_enough_trials_are_under_way() -> None:
    samples = [(0.5, 0.0), (2.5, 90.0), (2.9, 100.0), (5.0, 20.0), (9.0, 1.0)]
    assert packed.busy_while(samples, TIMES, 3) == 95
    assert packed.busy_while(samples, TIMES, 2) == 70
    with pytest.raises(SencaError, match="nvidia-smi told nothing while 4 trials"):
        packed.busy_while(samples, TIMES, 4)


def test_what_nvidia_smi_says_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "nvidia-smi"
    said.write_text("#!/bin/sh\necho 12\necho '[N/A]'\necho 99\nexec sleep 60\n")
    said.chmod(said.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with packed.watched() as samples:
        end = time.monotonic() + 30
        while len(samples) < 2 and time.monotonic() < end:
            time.sleep(0.01)
    assert [busy for _, busy in samples] == [12, 99]


def test_without_nvidia_smi_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SencaError, match="nvidia-smi, which says how busy a card is"), packed.watched():
        pass


def test_a_trial_notes_when_it_ran(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    shard = write_section(tmp_path, image=False)
    (row,) = packed.noted_trial(made_up_trial("pca", "trial=0", "S0", 1, shard), notes=str(notes))
    assert row[keys.STATUS] == keys.OK
    begin, end = json.loads(next(notes.iterdir()).read_text())
    assert begin < end


def test_without_a_gpu_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "fresh", lambda function, **_: None)
    with pytest.raises(SencaError, match="torch sees no GPU here"):
        gpu.measure(1, print)
