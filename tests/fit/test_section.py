import dataclasses

import numpy as np
import pytest
import torch
from toys import toy_sample

from senca_ray.config import Setting
from senca_ray.errors import SencaError
from senca_ray.fit import section as section_module
from senca_ray.fit.section import section_tensors

SETTING = Setting(hvgs=60, neighbors=4)


def test_pools_tiles_of_three_by_three() -> None:
    sample = toy_sample(columns=12, rows=10)
    section = section_tensors(sample, SETTING)
    assert section.tile_sizes.tolist() == [9, 9, 9, 3] * 4
    assert len({tuple(xy // 3) for xy in sample.xy[section.tiles.numpy() == 0]}) == 1
    assert section.neighborhood.shape == (120, 5)
    assert torch.equal(section.neighborhood[:, 0], torch.arange(120))
    # Positions that miss a tile's edge by rounding alone, and a section that starts elsewhere.
    moved = dataclasses.replace(sample, xy=sample.xy + 0.1 + 1e-9 * np.sin(sample.xy))
    assert torch.equal(section_tensors(moved, SETTING).tiles, section.tiles)


def test_without_the_graph_a_spot_is_its_own_neighbourhood() -> None:
    alone = section_tensors(toy_sample(), dataclasses.replace(SETTING, graph=False))
    assert torch.equal(alone.neighborhood, torch.arange(80)[:, None])
    full = section_tensors(toy_sample(), SETTING)
    assert torch.equal(alone.tiles, full.tiles) and torch.equal(alone.expression, full.expression)


def test_without_the_image_branch_it_is_a_section_without_image() -> None:
    left_out = section_tensors(toy_sample(), dataclasses.replace(SETTING, image=False))
    without = section_tensors(toy_sample(image=False), SETTING)
    assert left_out.image_features is None and without.image_features is None
    assert left_out.blocks is None and without.blocks is None  # a small section, in the exact form
    for name in ("expression", "neighborhood", "tiles", "tile_sizes"):
        assert torch.equal(getattr(left_out, name), getattr(without, name))


def test_too_short_a_shard_is_reported() -> None:
    with pytest.raises(SencaError, match="61 HVGs asked for"):
        section_tensors(toy_sample(), dataclasses.replace(SETTING, hvgs=61))
    with pytest.raises(SencaError, match="17 neighbours asked for"):
        section_tensors(toy_sample(), dataclasses.replace(SETTING, neighbors=17))


def test_a_large_section_has_blocks_and_the_same_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(section_module, "BLOCKS", 20)
    sample = toy_sample(columns=12, rows=10)
    exact, large = (section_tensors(sample, dataclasses.replace(SETTING, form=f)) for f in ("exact", "large"))
    assert exact.blocks is None and large.blocks is not None
    assert len(large.blocks.sizes) == 20 and large.blocks.sizes.sum() == 120
    assert torch.equal(torch.bincount(large.blocks.block).float(), large.blocks.sizes)
    assert exact.image_features is not None and large.image_features is not None
    torch.testing.assert_close(large.image_features, exact.image_features)
