from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from senca_ray import keys
from senca_ray.errors import SencaError
from senca_ray.fit import cells as cells_module
from senca_ray.fit import regions as regions_module
from senca_ray.fit.cells import cells_of, sampled_rows
from senca_ray.fit.choices import CLUSTERINGS
from senca_ray.fit.regions import cluster, silhouette_curve


@pytest.fixture
def few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells_module, "CELLS", 60)
    monkeypatch.setattr(cells_module, "SAMPLED", 300)
    monkeypatch.setattr(regions_module, "SAMPLED", 300)


def clouds(n_spots: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """(N, 6) values in four clouds of different size, and the cloud of each spot."""
    rng = np.random.default_rng(0)
    cloud = rng.choice(4, n_spots, p=[0.4, 0.3, 0.2, 0.1])
    return (3 * rng.normal(size=(4, 6))[cloud] + rng.normal(size=(n_spots, 6))).astype(np.float32), cloud


@pytest.mark.usefixtures("few_cells")
class TestLarge:
    def test_cells_hold_every_spot_and_their_centres_are_means(self) -> None:
        values, _ = clouds()
        found = cells_of(values)
        assert 50 < len(found.sizes) <= 60 and found.sizes.sum() == len(found.of) == 600
        np.testing.assert_array_equal(np.bincount(found.of), found.sizes)
        expected = [values[found.of == cell].mean(axis=0) for cell in range(len(found.sizes))]
        np.testing.assert_allclose(found.centres, expected, atol=1e-5)

    @pytest.mark.parametrize("clustering", CLUSTERINGS)
    def test_clouds_are_found_as_in_the_exact_form(self, clustering: str) -> None:
        values, cloud = clouds()
        exact, large = (cluster(values, 4, clustering, 0, form) for form in (keys.EXACT, keys.LARGE))
        least = adjusted_rand_score(cloud, exact) - 0.1
        assert least > 0.2 and adjusted_rand_score(cloud, large) > least
        assert large.dtype == np.int16 and (np.diff(np.bincount(large)) <= 0).all()
        np.testing.assert_array_equal(large, cluster(values, 4, clustering, 0, keys.LARGE))

    @pytest.mark.parametrize("clustering", CLUSTERINGS)
    def test_equal_spots_stay_together(self, clustering: str) -> None:
        values = np.repeat(np.eye(3), [200, 100, 50], axis=0)
        np.testing.assert_array_equal(
            cluster(values, 5, clustering, 0, keys.LARGE), np.repeat([0, 1, 2], [200, 100, 50])
        )

    def test_the_curve_is_nearly_that_of_the_exact_form(self) -> None:
        values, _ = clouds()
        exact, large = (silhouette_curve(values, "ward", form) for form in (keys.EXACT, keys.LARGE))
        assert exact.keys() == large.keys()
        assert max(large, key=large.__getitem__) == max(exact, key=exact.__getitem__) == 4

    def test_an_impossible_k_is_refused(self) -> None:
        with pytest.raises(SencaError, match="k = 601 found"):
            cluster(clouds()[0], 601, "ward", 0, keys.LARGE)


@pytest.mark.parametrize("clustering", ["ward", "average", "complete"])
def test_as_many_cells_as_spots_are_the_exact_form(clustering: str) -> None:
    values, _ = clouds(200)
    exact, large = (cluster(values, 5, clustering, 0, form) for form in (keys.EXACT, keys.LARGE))
    np.testing.assert_array_equal(large, exact)


def test_a_sample_is_the_same_at_every_call_and_no_row_is_drawn_twice() -> None:
    chosen = sampled_rows(1000, 100)
    assert len(np.unique(chosen)) == 100 and (np.diff(chosen) > 0).all() and chosen.max() > 800
    np.testing.assert_array_equal(chosen, sampled_rows(1000, 100))
    np.testing.assert_array_equal(sampled_rows(5, 100), np.arange(5))
