from __future__ import annotations

import importlib

import pytest

from senca_ray.bench import suite
from senca_ray.errors import SencaError


def test_all_figures_by_default_in_one_order() -> None:
    assert suite.chosen(()) == tuple(name for name in suite.NAMES if name not in ("scale", "gpu"))
    assert suite.chosen(["scale", "startup"]) == ("startup", "scale")
    assert suite.chosen(["overhead", "startup", "startup"]) == ("startup", "overhead")


def test_unknown_figures_are_refused_together() -> None:
    with pytest.raises(SencaError, match="bar, foo: unknown; expected some of startup,"):
        suite.chosen(["foo", "startup", "bar"])


@pytest.mark.parametrize("name", suite.NAMES)
def test_every_figure_has_its_module(name: str) -> None:
    assert callable(importlib.import_module(f"senca_ray.bench.{name}").measure)
