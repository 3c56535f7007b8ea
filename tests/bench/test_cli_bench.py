from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from senca_ray.bench import startup
from senca_ray.bench.figure import Figure
from senca_ray.bench.record import new_record, read_record, write_record
from senca_ray.cli_bench import bench
from senca_ray.errors import SencaError

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(bench)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Ray takes seconds and has its own tests; imports and the help text are measured."""
    monkeypatch.setattr(startup, "fresh", lambda function: 2.5)


@pytest.mark.usefixtures("no_ray")
def test_one_figure_is_measured_printed_and_written(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    output = run("--only", "startup", "--repeat", 1, "--out", out)
    assert "senca --help" in output and "2.5 s" in output and str(out) in output.replace("\n", "")
    record = read_record(out)
    assert [f.name for f in record.figures] == ["startup.import", "startup.help", "startup.ray"]
    assert [len(f.runs) for f in record.figures] == [1, 1, 1]
    assert [f.bound for f in record.figures] == [0.3, 1.0, None]
    assert all(run > 0 for f in record.figures for run in f.runs)
    assert set(json.loads(out.read_text())) == {"schema", "date", "machine", "figures", "missing"}


@pytest.mark.usefixtures("no_ray")
def test_nothing_is_written_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("--only", "startup", "--repeat", 1)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_measured_is_told_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(name: str, *_: object, **__: object) -> list[Figure]:
        if name == "fit":
            raise SencaError("the section is gone")
        return [Figure(name=name, title=name, unit="s", runs=(1.0,))]

    monkeypatch.setattr("senca_ray.bench.suite.measure", measure)
    names = ("startup", "fit", "aggregator")
    with pytest.raises(SencaError, match="1 of 3 could not be measured\nfit: the section is gone"):
        run(*(part for name in names for part in ("--only", name)), "--out", tmp_path / "r.json")
    record = read_record(tmp_path / "r.json")
    assert [f.name for f in record.figures] == ["startup", "aggregator"]
    assert record.missing == {"fit": "the section is gone"}


def test_compare_prints_ratios_and_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senca_ray.bench.suite.measure", None)
    for name, seconds in (("a.json", 2.0), ("b.json", 1.0)):
        figure = Figure(name="x", title="some figure", unit="s", runs=(seconds,))
        write_record(tmp_path / name, new_record([figure], {}))
    output = run("--compare", tmp_path / "a.json", tmp_path / "b.json")
    assert "0.50" in output and "better" in output and "not the same machine" not in output


@pytest.mark.parametrize("extra", [("--only", "fit"), ("--long",), ("--out", "c.json")])
def test_compare_goes_with_nothing_else(extra: tuple[str, ...]) -> None:
    with pytest.raises(SencaError, match="--compare measures nothing"):
        run("--compare", "a.json", "b.json", *extra)


def test_an_output_that_cannot_be_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("{}")
    for out, reason in (
        (tmp_path / "there.json", "exists already"),
        (tmp_path / "gone" / "r.json", "no folder"),
    ):
        with pytest.raises(SencaError, match=reason):
            run("--only", "startup", "--out", out)


def test_an_unknown_figure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SencaError, match="--only speed: unknown"):
        run("--only", "speed", "--out", tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()
