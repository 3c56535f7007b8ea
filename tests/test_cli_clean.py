from __future__ import annotations

from pathlib import Path

import pytest
import typer
from tiny_study import trial_rows, write_study
from typer.testing import CliRunner, Result

from senca_ray import keys
from senca_ray.cli_clean import clean
from senca_ray.lock import held

app = typer.Typer(rich_markup_mode=None)
app.command()(clean)

DONE = [row for s in ("A1", "B1") for n in (4, 8) for row in trial_rows(s, f"neighbors={n}")]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a user, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENCA_CACHE", str(tmp_path / "cache"))
    return tmp_path


def run(*options: str, answers: str = "") -> Result:
    return CliRunner().invoke(app, options, input=answers)


def text(*options: str, answers: str = "") -> str:
    result = run(*options, answers=answers)
    assert result.exit_code == 0, result.output
    return result.output


def shard(here: Path, sample: str) -> str:
    folder = here / "cache" / "shards" / f"{sample}-0123"
    folder.mkdir(parents=True)
    (folder / keys.SHARD_FILE).write_bytes(b"0" * 4000)
    return str(folder)


def test_clean_asks_about_everything_and_removes_what_is_agreed(here: Path) -> None:
    needed, free = shard(here, "A1"), shard(here, "B1")
    study = write_study(here / "studies" / "stopped", DONE[:4], shards={"A1": needed})
    (study / "tune").mkdir()
    write_study(here / "studies" / "one", DONE, finished=True)
    output = text(answers="n\ny\nn\ny\ny\nn\n")
    questions = [line for line in output.splitlines() if "[y/N]" in line]
    assert "leftovers of studies" in questions[0] and "prepared sections: 1, 4.0 kB" in questions[1]
    assert "needed by unfinished stopped? (it cannot go on without)" in questions[2]
    assert "freed" in output and len(questions) == 6
    assert (study / "tune").exists() and Path(needed).exists()
    assert not Path(free).exists() and not (here / "studies" / "one").exists()


def test_clean_without_asking_keeps_studies_and_what_they_need(here: Path) -> None:
    needed, free = shard(here, "A1"), shard(here, "B1")
    study = write_study(here / "studies" / "stopped", DONE[:4], shards={"A1": needed})
    (study / "tune").mkdir()
    (study / keys.CHECKPOINT_FOLDER).mkdir()
    done = write_study(here / "studies" / "one", DONE, finished=True)
    assert "freed 4.0 kB" in text("--yes")
    assert not Path(free).exists() and not (study / "tune").exists()
    assert all(map(Path.exists, (Path(needed), study / keys.CHECKPOINT_FOLDER, study, done)))


def test_clean_leaves_alone_what_runs(here: Path) -> None:
    used = shard(here, "A1")
    study = write_study(here / "studies" / "one", DONE[:4], shards={"A1": used})
    (study / "tune").mkdir()
    with held(study):
        output = text(answers="y\n" * 9)
    assert "[y/N]" not in output and "run by process" in output and "freed 0 bytes" in output
    assert (study / "tune").exists() and Path(used).exists()


def test_clean_of_nothing(here: Path) -> None:
    assert "nothing there to remove" in text()


def test_clean_that_nobody_answers_removes_nothing(here: Path) -> None:
    path = Path(shard(here, "A1"))
    assert run().exit_code == 1
    assert path.exists()
