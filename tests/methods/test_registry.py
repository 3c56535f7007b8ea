"""The methods that there are: this package's, and what others add through an entry point."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toys import toy_sample

from senca_ray import keys, methods
from senca_ray.config import Setting
from senca_ray.errors import SencaError
from senca_ray.fit.choices import CLUSTERINGS
from senca_ray.methods import CONTROLS, METHODS, MODEL, Method, RegionMethod, all_methods, broken, method
from senca_ray.methods.protocol import Protocol
from senca_ray.methods.run import run

PLUGIN = """
from senca_ray.methods import Embedding, Method

class Sideways(Method):
    name = {name!r}
    title = "the first coordinate alone"
    def genes_needed(self, setting):
        return 1
    def embed(self, sample, setting, seed):
        return Embedding(sample.xy[:, :1])

class Abstract(Method):
    name = "abstract"
    title = "embeds nothing"

class Nameless(Sideways):
    pass

class NoMethod:
    name = "no-method"

helper = 4
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package for this test: entry points of the group by name, and the code of its module."""
    modules = []

    def add(package: str, entries: dict[str, str], code: str = PLUGIN.format(name="sideways")) -> None:
        modules.append(package)
        (tmp_path / f"{package}.py").write_text(code)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{methods.ENTRY_POINTS}]", *lines]))
        monkeypatch.syspath_prepend(tmp_path)
        methods._added.cache_clear()

    methods._added.cache_clear()
    yield add
    monkeypatch.undo()
    methods._added.cache_clear()
    for name in modules:
        sys.modules.pop(name, None)


# --- Methods of other packages ------------------------------------------------------------------------


def test_a_method_of_another_package_is_one_like_any_other(install: Install) -> None:
    install("toy_good", {"anything": "toy_good:Sideways"})
    assert list(all_methods()) == [*METHODS, "sideways"] and broken() == {}
    found = method("sideways")
    assert isinstance(found, Method) and found is method("sideways")
    assert run(found, toy_sample(), Setting(), 0, Protocol()).scores[keys.ARI] > 0.7


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("toy_bad:NoMethod", "toy_bad:NoMethod is no subclass of senca_ray.methods.Method"),
        ("toy_bad:helper", "TypeError"),
        ("toy_bad:Abstract", "TypeError"),
        ("toy_bad:Gone", "AttributeError"),
        ("toy_gone:Sideways", "ModuleNotFoundError: No module named 'toy_gone'"),
        ("toy_bad:Nameless", "name"),
    ],
)
def test_a_method_that_cannot_be_used_is_told_with_its_reason_and_stops_nothing(
    install: Install, value: str, words: str
) -> None:
    install("toy_fine", {"z-fine": "toy_fine:Sideways"})
    install("toy_bad", {"bad": value}, PLUGIN.replace("name = {name!r}", ""))
    assert list(all_methods()) == [*METHODS, "sideways"]
    assert broken().keys() == {"bad"} and words in broken()["bad"]


def test_a_package_that_breaks_when_it_is_imported(install: Install) -> None:
    install("toy_broken", {"broken": "toy_broken:Any"}, "raise RuntimeError('no licence found')")
    assert broken() == {"broken": "RuntimeError: no licence found"}
    assert all_methods() == METHODS


def test_nobody_takes_the_name_of_another(install: Install) -> None:
    install("toy_model", {"model": "toy_model:Sideways"}, PLUGIN.format(name=MODEL))
    install("toy_one", {"one": "toy_one:Sideways"})
    install("toy_two", {"two": "toy_two:Sideways"})
    assert list(all_methods()) == [*METHODS, "sideways"] and all_methods()[MODEL] is METHODS[MODEL]
    assert broken() == {
        "model": "there is a method 'senca' already",
        "two": "there is a method 'sideways' already",
    }


@pytest.mark.parametrize("name", ["simple", "my:method"])
def test_a_name_that_means_something_else_is_refused(install: Install, name: str) -> None:
    """`--method simple` are all methods of a kind, `--method my:method` asks for a clustering."""
    install("toy_name", {"entry": "toy_name:Sideways"}, PLUGIN.format(name=name))
    assert all_methods() == METHODS and name in broken()["entry"]


def test_what_is_told_of_broken_methods_cannot_be_changed_from_outside(install: Install) -> None:
    install("toy_gone", {"gone": "toy_gone:Gone"})
    broken().clear()
    assert broken()


def test_an_unknown_name_is_told_with_the_known_ones_of_others_too(install: Install) -> None:
    install("toy_good", {"anything": "toy_good:Sideways"})
    with pytest.raises(SencaError, match=r"'spagnc' is unknown; expected one of senca.*, sideways"):
        method("spagnc")


# --- This package's ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_says_of_itself_is_whole(name: str) -> None:
    found = METHODS[name]
    assert found.name == name == name.lower() and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name not in keys.METHOD_KINDS
    assert found.title and found.title[-1] != "." and "\n" not in found.title
    assert found.kind in keys.METHOD_KINDS and found.source in keys.METHOD_SOURCES
    assert found.modality
    assert found.checked or found.source != keys.REIMPLEMENTED
    assert found.citation or found.kind in (keys.NULL, keys.SIMPLE)
    assert json.dumps(dict(found.settings), allow_nan=False)
    # One has settings of its own, or those of the study.
    assert not (found.follows_setting and found.settings)
    assert len(set(found.clusterings)) == len(found.clusterings)
    for clustering in found.clusterings:
        assert clustering in CLUSTERINGS or (clustering == keys.OWN and isinstance(found, RegionMethod))
    assert found.seeded or not {"kmeans", "gmm-tied", "leiden"} & set(found.clusterings)
    assert found.genes_needed(Setting()) >= 1


def test_there_is_one_model_and_its_controls_are_nobody_s_proposal() -> None:
    assert [m.name for m in METHODS.values() if m.kind == keys.MODEL_KIND] == [MODEL]
    assert {METHODS[name].kind for name in CONTROLS} <= {keys.NULL, keys.SIMPLE}


def test_asking_which_methods_there_are_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'sklearn', 'ray', 'scanpy', 'anndata', 'pydantic', 'pandas'}"
    code = (
        "import sys; from senca_ray.methods import all_methods, broken\n"
        "all_methods(), broken(), [m.missing() for m in all_methods().values()]\n"
        f"print({heavy} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
