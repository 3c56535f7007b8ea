import logging
from pathlib import Path

import pytest
import torch

from senca_ray import keys
from senca_ray.study.checkpoint import TrialCheckpoint

ROW = {keys.SEED: 3, keys.ARI: 0.1 + 0.2, keys.SILHOUETTE: float("nan"), keys.REGIONS: [0, 1, 0]}


def kept(path: Path) -> TrialCheckpoint:
    """A checkpoint of trial 'a' with one row and a training under way."""
    checkpoint = TrialCheckpoint(path, interval=0)
    assert checkpoint.begin("a") == []
    checkpoint.add([ROW])
    optimizer = torch.optim.Adam([torch.ones(2, requires_grad=True)])
    state = {"seeds": [4], "parameters": [torch.arange(3.0)], "optimizer": optimizer.state_dict()}
    checkpoint.save(state | {"masks": [torch.Generator().get_state()], "losses": [[0.5]]})
    return checkpoint


def test_rows_and_training_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "trial.pt"
    kept(path)
    again = TrialCheckpoint(path)
    (row,) = again.begin("a")
    assert row[keys.ARI] == ROW[keys.ARI] and row[keys.REGIONS] == [0, 1, 0]
    assert row[keys.SILHOUETTE] != row[keys.SILHOUETTE]
    state = again.load()
    assert state is not None and state["losses"] == [[0.5]]
    assert torch.equal(state["parameters"][0], torch.arange(3.0))
    assert [file.name for file in path.parent.iterdir()] == ["trial.pt"]


def test_the_row_of_a_seed_takes_the_place_of_its_training(tmp_path: Path) -> None:
    path = tmp_path / "trial.pt"
    kept(path).add([ROW | {keys.SEED: 4}])
    again = TrialCheckpoint(path)
    assert [row[keys.SEED] for row in again.begin("a")] == [3, 4]
    assert again.load() is None


def test_nothing_is_written_before_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("senca_ray.study.checkpoint.time.monotonic", lambda: now)
    checkpoint = TrialCheckpoint(tmp_path / "trial.pt")
    now = 150.0  # a trial may wait before it begins
    checkpoint.begin("a")
    now = 179.9
    checkpoint.add([ROW])
    assert not checkpoint.due() and list(tmp_path.iterdir()) == []
    now = 180.0
    assert checkpoint.due()
    checkpoint.save({"seeds": [4]})
    assert not checkpoint.due() and [
        row[keys.SEED] for row in TrialCheckpoint(tmp_path / "trial.pt").begin("a")
    ]
    now = 210.0
    assert checkpoint.due()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty", "list", "folder"])
def test_a_damaged_or_foreign_file_is_ignored(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "trial.pt"
    kept(path)
    good = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "list":
        torch.save([1, 2], path)
    else:
        middle = good.index(b"identity")
        flipped = good[:middle] + b"\xff\x00" + good[middle + 2 :]
        path.write_bytes(
            {"truncated": good[:-200], "flipped": flipped, "text": b"seed,ari\n", "empty": b""}[damage]
        )
    checkpoint = TrialCheckpoint(path)
    assert checkpoint.begin("a") == [] and checkpoint.load() is None


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    path = tmp_path / "trial.pt"
    torch.save({"format": 1, "identity": "a", "rows": "[]", "training": Payload()}, path)
    assert TrialCheckpoint(path).begin("a") == []
    assert not (tmp_path / "ran").exists()


def test_another_trials_file_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trial.pt"
    kept(path)
    other = TrialCheckpoint(path)
    assert other.begin("b") == [] and other.load() is None
    monkeypatch.setattr("senca_ray.study.checkpoint._FORMAT", 99)
    assert other.begin("a") == [] and other.load() is None


def test_a_disk_that_refuses_does_not_end_the_trial(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        checkpoint = kept(tmp_path / "file" / "trial.pt")
    assert "no checkpoint kept" in caplog.text
    checkpoint.remove()
