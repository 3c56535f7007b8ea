import dataclasses
import json

import numpy as np
import pytest
from toys import toy_sample

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.errors import SencaError
from senca_ray.fit.choices import CLUSTERINGS
from senca_ray.methods import CONTROLS, METHODS, method
from senca_ray.methods.protocol import Protocol
from senca_ray.methods.run import run
from senca_ray.methods.smoothing import neighborhood_mean

SMALL = Setting(hvgs=30, embedding=16, hidden=16, bottleneck=8, epochs=2)


OURS = [name for name, method in METHODS.items() if method.source == keys.OURS]
"""Methods of other papers have tests of their own, with fewer steps."""


def test_every_method_says_what_it_is() -> None:
    for name, found in METHODS.items():
        assert name == found.name and found.title and found.kind in keys.METHOD_KINDS
        assert found.source in keys.METHOD_SOURCES and found.modality
        assert set(found.clusterings) <= {*CLUSTERINGS, keys.OWN}
        assert found.citation or found.kind in (keys.NULL, keys.SIMPLE)
        assert found.checked or found.source != keys.REIMPLEMENTED
        assert json.loads(json.dumps(dict(found.settings))) is not None
        assert not (found.fixed_embedding and found.follows_setting)


@pytest.mark.parametrize("name", OURS)
def test_every_method_embeds_every_spot_and_repeats_itself(name: str) -> None:
    sample = toy_sample()
    first, second = (run(METHODS[name], sample, SMALL, 3, Protocol()) for _ in range(2))
    assert first.embedding.values.shape[0] == len(sample.xy) == len(first.regions)
    np.testing.assert_array_equal(first.embedding.values, second.embedding.values)
    np.testing.assert_array_equal(first.regions, second.regions)
    assert first.k == 3


@pytest.mark.parametrize("name", [n for n in OURS if not METHODS[n].seeded])
def test_a_method_that_says_so_ignores_the_seed(name: str) -> None:
    regions = [run(METHODS[name], toy_sample(), SMALL, seed, Protocol()).regions for seed in (0, 1)]
    np.testing.assert_array_equal(*regions)


@pytest.mark.parametrize("name", [n for n in OURS if not METHODS[n].follows_setting])
def test_a_fixed_control_ignores_the_setting(name: str) -> None:
    other = dataclasses.replace(SMALL, hvgs=10, neighbors=8, epochs=1)
    embeddings = [run(METHODS[name], toy_sample(), s, 0, Protocol()).embedding.values for s in (SMALL, other)]
    np.testing.assert_array_equal(*embeddings)


@pytest.mark.parametrize("name", [n for n in OURS if METHODS[n].fixed_embedding])
def test_an_embedding_said_to_be_fixed_is(name: str) -> None:
    embeddings = [METHODS[name].embed(toy_sample(), SMALL, seed).values for seed in (0, 1)]
    np.testing.assert_array_equal(*embeddings)


def test_smoothed_pca_finds_bands_that_expression_shows() -> None:
    assert run(METHODS["smoothed-pca"], toy_sample(genes=200), SMALL, 0, Protocol()).scores["ari"] > 0.7


def test_coordinates_see_nothing_but_positions() -> None:
    sample = toy_sample()
    shuffled = dataclasses.replace(sample, counts=sample.counts[::-1], image_features=None)
    a, b = (METHODS["coordinates"].embed(s, SMALL, 0).values for s in (sample, shuffled))
    np.testing.assert_array_equal(a, b)


def test_image_control_needs_an_image() -> None:
    with pytest.raises(SencaError, match="T1: smoothed-image needs an image"):
        METHODS["smoothed-image"].embed(toy_sample(image=False), SMALL, 0)


def test_neighbourhood_mean_by_hand() -> None:
    values = np.array([[1.0], [3.0], [8.0]])
    np.testing.assert_allclose(neighborhood_mean(values, np.array([[1], [2], [0]])), [[2.0], [5.5], [4.5]])


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(SencaError, match="'kmeans' is unknown; expected one of senca, untrained"):
        method("kmeans")
    assert "senca" not in CONTROLS
