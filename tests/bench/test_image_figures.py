"""The figures of large images measure what they say, at a small size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from senca_ray.bench import images
from senca_ray.data.images import open_picture
from senca_ray.data.pictures.tiff import TiffPicture


def test_images_are_of_the_size_and_kind_that_the_figures_say(tmp_path: Path) -> None:
    images.make_image(str(tmp_path / "a.tif"), 700)
    with open_picture(tmp_path / "a.tif", 10**6) as picture:
        assert isinstance(picture, TiffPicture)
        assert picture.size == (700, 700) and len(picture.levels) > 1
    done = images.cut_patches(str(tmp_path / "a.tif"), 50)
    assert done["spots"] == 50 and done["seconds"] > 0 and done["mb"] > 0


def test_figures_of_both_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    def here(function: Callable[..., Any], **arguments: Any) -> Any:
        return function(**arguments)

    monkeypatch.setattr(images, "fresh", here)
    monkeypatch.setattr(images, "SPOTS", 9)
    said: list[str] = []
    figures = images.measure(2, said.append, side=300, kinds=("slide", "jpeg"))
    assert [f.name for f in figures] == [
        "image.memory.slide",
        "image.rate.slide",
        "image.memory.jpeg",
        "image.rate.jpeg",
    ]
    assert all(len(f.runs) == 2 for f in figures) and figures[0].bound == 2000
    assert "300 x 300" in figures[0].note and len(said) == 6
