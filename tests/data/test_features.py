"""What a shard holds of the image: several encoders side by side, each computed once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from toys import toy_section

from senca_ray import keys
from senca_ray.config import PrepareConfig, Setting
from senca_ray.data import features, shards
from senca_ray.data.section import RawSection
from senca_ray.data.shards import read_meta, read_sample, write_shard
from senca_ray.data.stages import Recipe, expression_content, fingerprint
from senca_ray.errors import SencaError
from senca_ray.methods.protocol import Protocol
from senca_ray.model.encoders.batching import Batches
from senca_ray.model.encoders.network import Network
from senca_ray.model.image_encoder import Encoder
from senca_ray.study.run_trial import run_trial
from senca_ray.study.trial import Trial

STEP = 12
"""Pixels between spots."""
PLAIN = PrepareConfig(encoders=("a",), patch_pixels=32, min_gene_count=0)
BOTH = dataclasses.replace(PLAIN, encoders=("a", "b"))


class Colours(nn.Module):
    """Mean colour of a patch times a weight: what it should be can be said beforehand."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)) * self.weight


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(encoder, patches) of every call that encodes."""
    calls: list[tuple[str, int]] = []

    class Counted(Encoder):
        def features(self, patches: np.ndarray) -> np.ndarray:
            calls.append((self.name[:1], len(patches)))
            return super().features(patches)

    def encoder(name: str, weights: str | None, precision: str) -> Encoder:
        network = Network(Colours({"a": 1.0, "b": 2.0, "c": 3.0}[name]), "made up", (0, 0, 0), (1, 1, 1))
        return Counted(f"{name} (made up)", network, network.identity(), "cpu", precision, Batches("cpu"))

    monkeypatch.setattr(features, "_encoder", encoder)
    return calls


def section(folder: Path, shade: int = 0) -> RawSection:
    """8 x 6 spots on an image whose red grows to the right and whose green grows downwards."""
    plain = toy_section(folder)
    width, height = 9 * STEP, 7 * STEP
    image = np.full((height, width, 3), shade, dtype=np.uint8)
    image[..., 0], image[..., 1] = np.arange(width), 2 * np.arange(height)[:, None]
    Image.fromarray(image).save(folder / "T1.png")
    files = dataclasses.replace(plain.files, image=folder / "T1.png")
    return dataclasses.replace(plain, files=files, pixel_xy=(plain.xy + 1) * STEP)


def prepared(raw: RawSection, store: Path, config: PrepareConfig) -> Path:
    recipe = Recipe(config, None, str(store))
    content = expression_content(raw, recipe, fingerprint(raw.files, recipe))
    return write_shard(store, features.image_content(content, raw.files, None, recipe))


def test_features_are_those_of_the_patch_around_each_spot(
    tmp_path: Path, runs: list[tuple[str, int]]
) -> None:
    raw = section(tmp_path / "raw")
    shard = prepared(raw, tmp_path / "s", BOTH)
    assert raw.pixel_xy is not None
    # A patch ends one pixel before the same distance on, so its middle is half a pixel back.
    expected = np.column_stack([raw.pixel_xy - 0.5, np.zeros(48)]) * [1, 2, 0] / 255
    first, second = (read_sample(str(shard), 5, name) for name in ("a", "b"))
    np.testing.assert_allclose(first.image_features, expected, atol=0.6 / 255)
    np.testing.assert_allclose(second.image_features, 2 * expected, atol=1.2 / 255)
    assert (first.encoder, second.encoder) == ("a (made up)", "b (made up)")
    assert read_meta(str(shard))["patch_radius_pixels"] == STEP
    assert sorted(runs) == [("a", 48), ("b", 48)]


def test_few_patches_at_once_give_the_same(
    tmp_path: Path, runs: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = section(tmp_path / "raw")
    keep = dataclasses.replace(PLAIN, store_patches=True)
    whole = prepared(raw, tmp_path / "s", keep)
    monkeypatch.setattr(features, "_PATCH_BYTES", 40 * 32 * 32 * 3)
    parts = prepared(raw, tmp_path / "t", keep)
    assert runs == [("a", 48), ("a", 32), ("a", 16)]
    assert (whole / keys.SPOTS_FILE).read_bytes() == (parts / keys.SPOTS_FILE).read_bytes()


def test_the_first_encoder_is_the_default_and_one_that_is_missing_lists_the_others(
    tmp_path: Path, runs: list[tuple[str, int]]
) -> None:
    shard = str(prepared(section(tmp_path / "raw"), tmp_path / "s", BOTH))
    np.testing.assert_array_equal(
        read_sample(shard, 5).image_features, read_sample(shard, 5, "a").image_features
    )
    assert read_sample(shard, 5, "b (made up)").encoder == "b (made up)", "as result rows print it"
    with pytest.raises(
        SencaError, match=r"'c' in its shard; it has those of a, b.*--encoder a --encoder b --encoder c"
    ):
        read_sample(shard, 5, "c")


def test_a_trial_reads_the_features_of_its_setting(tmp_path: Path, runs: list[tuple[str, int]]) -> None:
    shard = str(prepared(section(tmp_path / "raw"), tmp_path / "s", BOTH))
    read = []
    for encoder in ("", "b", "c"):
        setting = Setting(encoder=encoder)
        trial = Trial("s", "image", f"encoder={encoder}", setting, "T1", shard, (0,), Protocol())
        (row,) = run_trial(trial)
        read.append((row[keys.STATUS], row.get(keys.ENCODER)))
        assert encoder != "c" or "it has those of a, b" in row[keys.REASON]
    assert read == [(keys.OK, "a (made up)"), (keys.OK, "b (made up)"), (keys.FAILED, None)]


def test_what_is_stored_is_not_computed_again(tmp_path: Path, runs: list[tuple[str, int]]) -> None:
    raw, store = section(tmp_path / "raw"), tmp_path / "s"
    one = prepared(raw, store, PLAIN)
    both = prepared(raw, store, BOTH)
    assert runs == [("a", 48), ("b", 48)], "the second time the new encoder alone"
    turned = prepared(raw, store, dataclasses.replace(PLAIN, encoders=("b", "a"), min_gene_count=5))
    assert len(runs) == 2 and len({one, both, turned}) == 3
    for name in ("a", "b"):
        held = [read_sample(str(shard), 5, name).image_features for shard in (both, turned)]
        np.testing.assert_array_equal(*held)
    assert read_sample(str(turned), 5).encoder == "b (made up)"
    keep = prepared(raw, store, dataclasses.replace(BOTH, store_patches=True))
    assert len(runs) == 2, "patches are cropped, and not encoded"
    assert "patch" in shards.pq.read_schema(keep / keys.SPOTS_FILE).names


@pytest.mark.parametrize(
    "changes",
    [
        {"patch_radius": 1.5},
        {"patch_pixels": 48},
        {"precision": "bfloat16"},
        {"patch_um": None, "encoders": ("c",)},
    ],
)
def test_features_of_something_else_are_computed(
    tmp_path: Path, runs: list[tuple[str, int]], changes: dict[str, object]
) -> None:
    raw, store = section(tmp_path / "raw"), tmp_path / "s"
    prepared(raw, store, PLAIN)
    prepared(raw, store, dataclasses.replace(PLAIN, **changes))  # type: ignore[arg-type]
    assert len(runs) == 2


def test_another_image_or_other_places_are_something_else(
    tmp_path: Path, runs: list[tuple[str, int]]
) -> None:
    raw, store = section(tmp_path / "raw"), tmp_path / "s"
    prepared(raw, store, PLAIN)
    prepared(section(tmp_path / "other", shade=9), store, PLAIN)
    assert raw.pixel_xy is not None
    moved = dataclasses.replace(raw, pixel_xy=raw.pixel_xy + 1)
    # The fingerprint is of the raw files, so that only another filter makes it another shard.
    prepared(moved, store, dataclasses.replace(PLAIN, min_gene_count=5))
    assert len(runs) == 3


def test_damaged_and_foreign_shards_are_passed_over(tmp_path: Path, runs: list[tuple[str, int]]) -> None:
    raw, store = section(tmp_path / "raw"), tmp_path / "s"
    shard = prepared(raw, store, PLAIN)
    for name, text in {"T1-junk": "{", "T1-list": "[1]", "T1-old": '{"schema": 1}', "T1-bare": "{}"}.items():
        (store / name).mkdir()
        (store / name / keys.SHARD_FILE).write_text(text)
    spots = (shard / keys.SPOTS_FILE).read_bytes()
    (shard / keys.SPOTS_FILE).write_bytes(spots[:100] + bytes([spots[100] ^ 1]) + spots[101:])
    again = prepared(raw, store, BOTH)
    assert runs == [("a", 48), ("a", 48), ("b", 48)]
    (shard / keys.SPOTS_FILE).unlink()
    (again / keys.SPOTS_FILE).unlink()
    prepared(raw, store, dataclasses.replace(BOTH, min_gene_count=5))
    assert len(runs) == 5


def test_a_shard_without_image_has_no_encoder_to_miss(tmp_path: Path) -> None:
    raw = toy_section(tmp_path / "raw")
    recipe = Recipe(PLAIN, None, "unused")
    content = expression_content(raw, recipe, fingerprint(raw.files, recipe))
    shard = str(write_shard(tmp_path / "s", content))
    assert read_sample(shard, 5, "anything").image_features is None
    with pytest.raises(SencaError, match="without pixel positions"):
        features.image_content(content, raw.files, None, recipe)


def test_what_the_description_says(tmp_path: Path, runs: list[tuple[str, int]]) -> None:
    meta = json.loads(
        (prepared(section(tmp_path / "raw"), tmp_path / "s", BOTH) / keys.SHARD_FILE).read_text()
    )
    assert meta["schema"] == 2 and meta["encoder"] == "a (made up)"
    assert [(one["asked"], one["name"]) for one in meta["encoders"]] == [
        ("a", "a (made up)"),
        ("b", "b (made up)"),
    ]
    assert len({one["key"] for one in meta["encoders"]}) == 2
