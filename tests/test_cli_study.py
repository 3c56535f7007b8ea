from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from report.study_folder import make_study
from tiny_study import append, failed, trial_rows, write_study
from typer.testing import CliRunner, Result

from senca_ray import keys, recipe
from senca_ray.cli_study import study_app
from senca_ray.errors import SencaError
from senca_ray.lock import held

app = typer.Typer(rich_markup_mode=None)
app.add_typer(study_app, name="study")

DONE = [row for s in ("A1", "B1") for n in (4, 8) for row in trial_rows(s, f"neighbors={n}")]
SEARCH = {
    "kind": "search",
    "default": "default",
    "trials": 100,
    "space": {
        "neighbors": [4, 8],
        "dropout": {"low": 0.0, "high": 0.5, "log": False, "step": 0.1},
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "step": None},
    },
    "objectives": ["ari", "chaos"],
    "aggregate": "mean",
    "suggestions": 20,
    "select": "loo-patient",
    "test_patients": [],
    "racing": True,
    "ahead": 2,
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a user."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*command: str) -> Result:
    return CliRunner().invoke(app, command)


def text(*command: str) -> str:
    result = run(*command)
    assert result.exit_code == 0, result.output
    return result.output


def error(*command: str) -> str:
    result = run(*command)
    assert isinstance(result.exception, SencaError), result.output
    return str(result.exception)


def cells(output: str) -> dict[str, list[str]]:
    """The words of each line, by the first of them."""
    return {words[0]: words[1:] for words in map(str.split, output.splitlines()) if words}


def test_list(here: Path) -> None:
    write_study(here / "studies" / "finished", DONE, finished=True)
    write_study(here / "studies" / "stopped", trial_rows("A1", **failed("boom")))
    running = write_study(here / "studies" / "running", DONE[:8])
    write_study(here / "studies" / "later", schema=99)
    long = "a-name-that-is-much-longer-than-any-column-of-a-table-of-eighty-columns-could-be"
    write_study(here / "studies" / long)
    with held(running):
        output = text("study", "list")
    lines = cells(output)
    assert lines["finished"][:4] == ["finished", "4", "of", "4"]
    assert lines["stopped"][:5] == ["stopped", "1", "of", "4", "4"]
    assert lines["running"][:4] == ["running", "2", "of", "4"]
    assert lines["later"] == ["unreadable"] and "schema 99 found" in output
    table = output.split("unreadable: ")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert long in "".join(line.split(" ")[0] for line in table.splitlines()).replace("\n", "")


def test_list_of_nothing(here: Path) -> None:
    assert "no such folder" in error("study", "list")
    (here / "studies").mkdir()
    assert "no studies yet" in text("study", "list")


def test_show_what_it_is_and_what_to_do_next(here: Path) -> None:
    study = write_study(here / "studies" / "one", DONE[:4])
    output = text("study", "show", "studies/one")
    for expected in (
        "A tiny study",
        "neighbors=4 (default), neighbors=8",
        "made-up cohort: 2 sections (A1, B1)",
        "k policy labels (an oracle), ward",
        "stopped, 1 of 4 trials\n",
        "go on with `senca resume studies/one`",
    ):
        assert expected in output
    with held(study):
        output = text("study", "show", "studies/one")
        assert "running, 1 of 4 trials, by process" in output
        assert "time left is told after a few trials" in output and "Ctrl-C" in output
        append(study, DONE[4:])
        assert "4 of 4 trials" in (output := text("study", "show", "studies/one"))
        assert "about 1 s left" in output
    (study / keys.RESULTS_FILE).touch()
    assert "senca report studies/one" in text("study", "show", "studies/one")
    (study / keys.REPORT_FILE).touch()
    assert "open studies/one/report.html" in text("study", "show", "studies/one")


def test_show_failures_as_they_were_told(here: Path) -> None:
    """A reason may look like the markup of the terminal library."""
    rows = [*trial_rows("A1", **failed("[bold] no ] [/x] tag")), *trial_rows("B1", **failed("other"))[:1]]
    write_study(here / "s", rows)
    output = text("study", "show", "s")
    assert "[bold] no ] [/x] tag" in output
    assert cells(output)["other"] == ["B1", "1"]


def suggestion(
    number: int, label: str, values: list[float] | None, state: str = "complete"
) -> dict[str, Any]:
    changes = {} if label == "default" else {"neighbors": 8, "dropout": 0.3}
    return {
        "number": number,
        "label": label,
        "changes": changes,
        "state": state,
        "values": values,
        "patients": 2,
    }


def selection(folds: list[dict[str, Any]]) -> str:
    return json.dumps({"objectives": ["ari", "chaos"], "aggregate": "mean", "folds": folds})


def fold(name: str, *suggestions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    samples = {"test_patients": [], "tuning_samples": ["A1"], "test_samples": []}
    return samples | {"name": name, "suggestions": list(suggestions), "chosen": None, "front": []} | changes


def test_show_a_search(here: Path) -> None:
    study = write_study(here / "s", **SEARCH)
    output = text("study", "show", "s")
    assert "neighbors=4,8; dropout=0.0..0.5:0.1; learning_rate=0.0001..0.01:log" in output
    assert "mean ari, chaos, 20 suggestions a fold, select loo-patient, racing" in output
    assert "0 of 100 trials at most" in output
    start, better = suggestion(0, "default", [0.2, 1.5]), suggestion(1, "s-1234abcd", [0.4, 1.25])
    raced = suggestion(2, "s-raced", [0.9, 1.0], "raced")
    folds = [
        fold("all", start, better, chosen="s-1234abcd", front=["default", "s-1234abcd"]),
        fold("without A", start, better, raced),
        fold("without B", raced),
    ]
    (study / keys.SELECTION_FILE).write_text(selection(folds))
    output = text("study", "show", "s")
    rows = [line.split() for line in output.splitlines()]
    numbers = [row[-3:] for row in rows if row and row[0] in ("all", "without")]
    # The front, the best so far of those scored in full, none.
    front = [["2", "0.400", "1.250"], ["2", "0.200", "1.500"]]
    assert numbers == [*front, ["3", "0.400", "1.250"], ["none", "yet", "1"]]
    assert "s-raced" not in output
    assert max(len(line) for line in output.splitlines() if line.startswith(("all", "without"))) <= 80


def test_run_hands_the_file_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(recipe, "run_file", lambda *args, **options: called.append((*args, options)))
    text("study", "run", "s.yaml", "--out", "o", "--data", "d", "--format", "her2st")
    wanted = {"data": "d", "format": "her2st", "out": "o", "address": None}
    assert called == [(Path("s.yaml"), wanted)]


def test_compare(here: Path) -> None:
    a, b = make_study(here / "before"), make_study(here / "after")
    output = text("study", "compare", str(a), str(b))
    assert "senca neighbors=4" in output and str(b) in output.replace("\n", "")
    assert "no results yet" in error("study", "compare", str(a), str(write_study(here / "new")))
    described = json.loads((b / keys.STUDY_FILE).read_text())
    (b / keys.STUDY_FILE).write_text(json.dumps(described | {"trials": 99}))
    assert "has not finished" in error("study", "compare", str(a), str(b))


@pytest.mark.parametrize("command", [(), ("list",), ("show",), ("run",), ("compare",)])
def test_help_says_what_it_does_with_an_example(command: tuple[str, ...]) -> None:
    output = text("study", *command, "--help")
    assert all(len(line) <= 80 for line in output.splitlines())
    assert "Example:" in output or not command


def test_importing_the_commands_is_light() -> None:
    heavy = "{'torch', 'ray', 'pandas', 'pyarrow', 'scanpy', 'sklearn'}"
    code = f"import sys, senca_ray.cli_study; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
