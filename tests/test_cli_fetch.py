from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from fetch_stub import Home, running, tar_of
from typer.testing import CliRunner

from senca_ray import options
from senca_ray.cli_fetch import MIRROR, fetch
from senca_ray.errors import SencaError
from senca_ray.fetch.catalogue import COHORTS, SCC

app = typer.Typer(rich_markup_mode=None)
app.command()(fetch)

FILES = {"GSM4284316_P2_ST_rep1_stdata.tsv.gz": b"counts"}


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Home]:
    """A home instead of the real ones, and the working folder of a user."""
    monkeypatch.chdir(tmp_path)
    with running() as home:
        monkeypatch.setenv(MIRROR, home.url)
        yield home


def text(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_without_a_name_it_lists_what_there_is() -> None:
    output = " ".join(text().split())
    for cohort in COHORTS.values():
        assert cohort.name in output and cohort.page[:40] in output and cohort.format in output
    assert "CC BY 4.0" in output and "doi:10.1016/j.cell.2020.05.039" in output


def test_a_cohort_comes_and_the_next_command_is_named(home: Home, tmp_path: Path) -> None:
    home.serve(SCC.archives[0].address, tar_of(FILES, "w"))
    output = text("scc")
    assert "1 files, 6 bytes: scc" in output and "next: senca inspect scc" in output
    assert "trusted as first seen" in output and "cite: Ji et al." in output
    assert (tmp_path / "scc" / "data" / "GSM4284316_P2_ST_rep1_stdata.tsv.gz").read_bytes() == b"counts"
    home.files.clear()
    assert "all there already" in text("scc", str(tmp_path / "scc"))


def test_an_unknown_cohort_is_told_with_the_known_ones() -> None:
    result = CliRunner().invoke(app, ["dlpfc"])
    assert isinstance(result.exception, SencaError)
    assert "expected one of her2st, breast-atlas, scc" in str(result.exception)


@pytest.mark.parametrize(("stopped", "code"), [(False, options.BAD_INPUT), (True, options.STOPPED)])
def test_exit_codes(
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stopped: bool,
    code: int,
) -> None:
    if stopped:
        from senca_ray.fetch import run

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(run, "_archives", stop)
    monkeypatch.setattr(sys, "argv", ["senca", "scc"])
    with pytest.raises(SystemExit) as end:
        options.guarded(app)
    assert end.value.code == code
    said = capsys.readouterr().err
    assert ("the same command goes on from there" if stopped else SCC.archives[0].address) in said
