from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from tiny_study import append, trial_rows, write_study
from typer.testing import CliRunner, Result

from senca_ray import cli_watch, keys
from senca_ray.cli_watch import watch
from senca_ray.errors import SencaError
from senca_ray.lock import held

app = typer.Typer(rich_markup_mode=None)
app.command()(watch)

BLOCK: dict[str, Any] = {keys.PATIENT: "A", keys.LABEL_SOURCE: keys.ANNOTATED, keys.MODALITY: keys.RNA}
TRIALS = [trial_rows(s, f"neighbors={n}", **BLOCK, ari=n / 10) for s in ("A1", "B1") for n in (4, 8)]
AT_A_TERMINAL = {"TTY_COMPATIBLE": "1", "COLUMNS": "80", "LINES": "40"}


def run(*command: str, **environment: str) -> Result:
    return CliRunner().invoke(app, command, env=environment)


def text(*command: str, **environment: str) -> str:
    result = run(*command, **environment)
    assert result.exit_code == 0, result.output
    return result.output


def error(*command: str) -> str:
    result = run(*command)
    assert isinstance(result.exception, SencaError), result.output
    return str(result.exception)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Lets something happen whenever the command waits for its next look; a list of the waits."""

    def happens(*steps: Callable[[], Any]) -> list[float]:
        waits: list[float] = []
        left = iter(steps)

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            next(left)()

        monkeypatch.setattr(cli_watch.time, "sleep", sleep)
        return waits

    return happens


def interrupt() -> None:
    raise KeyboardInterrupt


def test_it_goes_on_until_the_study_has_finished(
    tmp_path: Path, meanwhile: Callable[..., list[float]]
) -> None:
    study = write_study(tmp_path / "s")
    run_of_it = contextlib.ExitStack()
    run_of_it.enter_context(held(study))

    def finish() -> None:
        append(study, [row for trial in TRIALS[1:] for row in trial])
        (study / keys.RESULTS_FILE).touch()
        (study / keys.REPORT_FILE).touch()
        run_of_it.close()

    waits = meanwhile(lambda: append(study, TRIALS[0]), finish)
    output = text(str(study), "--every", "0.7", **AT_A_TERMINAL)
    assert waits == [0.7, 0.7]
    states = [f"{state} trials" for state in ("running, 0 of 4", "running, 1 of 4", "finished, 4 of 4")]
    assert [output.index(state) for state in states] == sorted(map(output.index, states))
    assert "\x1b[" in output, "redrawn in its place"
    assert output.rstrip().endswith(f"page: {study / keys.REPORT_FILE}")
    assert "0.800" in output


def test_ctrl_c_leaves_the_study_alone(tmp_path: Path, meanwhile: Callable[..., list[float]]) -> None:
    study = write_study(tmp_path / "s", TRIALS[0])
    before = {path: path.read_bytes() for path in study.iterdir()}
    meanwhile(interrupt)
    with held(study):
        output = text(str(study), **AT_A_TERMINAL)
    assert f"the study goes on. Look again with `senca watch {study}`" in output
    assert {path: path.read_bytes() for path in study.iterdir()} == before


def test_a_run_that_dies_is_told(tmp_path: Path, meanwhile: Callable[..., list[float]]) -> None:
    study = write_study(tmp_path / "s", TRIALS[0])
    run_of_it = contextlib.ExitStack()
    run_of_it.enter_context(held(study))
    meanwhile(run_of_it.close)
    output = text(str(study), **AT_A_TERMINAL)
    assert "stopped, 1 of 4 trials" in output and f"senca resume {study}" in output


@pytest.mark.parametrize(
    ("options", "environment"), [((), {}), (("--once",), AT_A_TERMINAL)], ids=["piped", "once"]
)
def test_one_look(tmp_path: Path, options: tuple[str, ...], environment: dict[str, str]) -> None:
    study = write_study(tmp_path / "s", TRIALS[0])
    with held(study):
        output = text(str(study), *options, **environment)
    assert "running, 1 of 4 trials" in output and f"partial page: `senca report {study}`" in output
    assert "\x1b[" not in output or environment


def test_before_its_sections_are_prepared(tmp_path: Path, meanwhile: Callable[..., list[float]]) -> None:
    study = tmp_path / "s"
    study.mkdir()
    with held(study):
        assert "prepares its sections; look again when its trials run" in error(str(study))
        made = write_study(tmp_path / "made") / keys.STUDY_FILE
        meanwhile(lambda: made.rename(study / keys.STUDY_FILE), interrupt)
        assert "running, 0 of 4 trials" in text(str(study), **AT_A_TERMINAL)


def test_the_one_study_that_runs_is_found(tmp_path: Path) -> None:
    studies = [write_study(tmp_path / name, title=f"Study {name}") for name in "abc"]
    problem = error(str(tmp_path))
    assert "no study runs there now; name the one" in problem
    assert all(f"  {study}" in problem for study in studies)
    with held(studies[1]):
        assert "Study b" in text(str(tmp_path))
        with held(studies[2]):
            problem = error(str(tmp_path))
            assert "2 studies run there" in problem
            assert str(studies[1]) in problem and str(studies[0]) not in problem


def test_no_study_at_all(tmp_path: Path) -> None:
    assert "no studies there" in error(str(tmp_path))
    assert "no such folder" in error(str(tmp_path / "gone"))
    for number in range(25):
        write_study(tmp_path / f"s{number:02}")
    assert "and 5 more" in error(str(tmp_path))


def test_damage_is_told(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", TRIALS[0])
    with (study / keys.JOURNAL_FILE).open("a") as journal:
        journal.write("{}\n")
    assert "line 5 is not a result row" in error(str(study))


def test_help_says_what_it_does_with_an_example() -> None:
    output = text("--help")
    assert all(len(line) <= 80 for line in output.splitlines())
    assert "Example:" in output and "Ctrl-C" in output


def test_importing_the_command_is_light() -> None:
    heavy = "{'torch', 'ray', 'pandas', 'pyarrow', 'scanpy', 'rich.live'}"
    code = f"import sys, senca_ray.cli_watch; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
