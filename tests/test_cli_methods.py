from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest
import typer
from typer.testing import CliRunner, Result

from senca_ray import keys, methods
from senca_ray.cli_methods import methods_app
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.methods import package
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.coordinates import Coordinates
from senca_ray.methods.package import SCRIPTS, PackageMethod
from senca_ray.methods.senca import Senca

app = typer.Typer(rich_markup_mode=None)
app.add_typer(methods_app, name="methods")


class Boxed(PackageMethod):
    """The authors' package of a method that there is not."""

    name = "boxed"
    title = "Boxed 1.0, its README's settings"
    citation = "Nobody, 2020"
    modality = "expression and coordinates"
    clusterings = ("gmm-tied",)
    settings = MappingProxyType({"epochs": 600, "start": "kmeans"})
    requirements = ("torch==1.0", "boxed==1.0")
    script = SCRIPTS / "boxed.py"


class Rebuilt(Method):
    """Another package's method that lacks something."""

    name = "rebuilt"
    title = "[not markup]"
    kind = keys.PUBLISHED
    source = keys.REIMPLEMENTED
    checked = "its loss against the original's on 3 sections"
    seeded = False

    def missing(self) -> str:
        return "licence needed: ask its authors"

    def genes_needed(self, setting: Setting) -> int:
        return 1

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A terminal of 80 columns, a cache of its own, four methods and a broken one."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("SENCA_CACHE", str(tmp_path))
    known = {m.name: m for m in (Senca(), Coordinates(), Boxed(), Rebuilt())}
    monkeypatch.setattr(methods, "all_methods", lambda: known)
    monkeypatch.setattr(methods, "broken", lambda: {"other": "ImportError: no [torch] here"})
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["methods", *words])


def text(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_tells_whose_code_runs_and_what_is_missing() -> None:
    lines = text().splitlines()
    rows = {line.split()[0]: line for line in lines if line[:1].strip()}
    assert (
        "null" in rows["coordinates"] and "ours" in rows["coordinates"] and "installed" in rows["coordinates"]
    )
    assert "package" in rows["boxed"] and "gmm-tied" in rows["boxed"] and "missing" in rows["boxed"]
    assert "the study's" in rows["senca"]
    assert "boxed: not installed: `senca methods install boxed`" in lines
    assert "rebuilt: licence needed: ask its authors" in lines
    assert "broken: other: ImportError: no [torch] here" in lines


def test_the_list_of_all_real_methods_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("COLUMNS", "80")
    output = text()
    assert all(len(line) <= 80 for line in output.splitlines() if ": " not in line)
    assert all(f"\n{name} " in output for name in methods.all_methods())


def test_one_method_is_shown_with_what_a_reviewer_asks() -> None:
    boxed, rebuilt = text("show", "boxed"), text("show", "rebuilt")
    assert boxed.startswith("boxed: Boxed 1.0, its README's settings\n")
    assert 'settings  epochs 600, start "kmeans"' in boxed and "after     Nobody, 2020" in boxed
    assert "torch==1.0, boxed==1.0" in boxed and "install boxed" in boxed
    assert "rebuilt: [not markup]" in rebuilt and "checked   its loss" in rebuilt
    assert "makes no difference" in rebuilt and "licence needed" in rebuilt
    assert "those of the study" in text("show", "senca")


def test_an_unknown_method_is_answered_with_the_known_ones() -> None:
    for command in ("show", "install"):
        error = run(command, "boxd").exception
        assert isinstance(error, SencaError) and "boxed" in str(error)


def test_install_fetches_what_is_missing_and_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = []

    def install(method: PackageMethod, tell: object) -> None:
        installed.append(method.name)
        method.environment().mkdir(parents=True)
        (method.environment() / "installed.txt").touch()
        (method.environment() / "bin").mkdir()
        method.python().touch()

    monkeypatch.setattr(package, "install", install)
    for _ in range(2):
        assert "boxed is installed" in text("install", "boxed")
    assert installed == ["boxed"]
    assert str(Boxed().environment()) in text("show", "boxed").replace("\n", "")


@pytest.mark.parametrize("name", ["coordinates", "rebuilt"])
def test_what_runs_no_package_is_not_installed(name: str) -> None:
    error = run("install", name).exception
    assert isinstance(error, SencaError) and "those that do: boxed" in str(error)
