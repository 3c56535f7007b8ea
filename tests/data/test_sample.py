"""A section without some of its spots."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import toy_sample

from senca_ray import keys
from senca_ray.data.graph import nearest_neighbors
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError

WHOLE = toy_sample()
N = len(WHOLE.xy)


def test_with_all_spots_it_is_the_section_itself() -> None:
    assert WHOLE.subset(np.ones(N, dtype=bool)) is WHOLE


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=N, max_size=N).filter(lambda kept: 1 <= sum(kept) < N))
def test_every_array_keeps_the_same_spots_in_the_same_order(chosen: list[bool]) -> None:
    kept = np.array(chosen)
    part, n = WHOLE.subset(kept), int(kept.sum())
    np.testing.assert_array_equal(part.counts.toarray(), WHOLE.counts.toarray()[kept])
    for name in ("total_counts", "xy", "image_features", "labels"):
        np.testing.assert_array_equal(getattr(part, name), getattr(WHOLE, name)[kept])
    # A spot's neighbours are the nearest of those that are left, as many as there can be.
    assert part.neighbors.shape == (n, min(16, n - 1)) and part.neighbors.dtype == WHOLE.neighbors.dtype
    distance = np.linalg.norm(part.xy[:, None] - part.xy, axis=-1).round(6)
    for spot in range(n):
        others = sorted((distance[spot, other], other) for other in range(n) if other != spot)
        assert part.neighbors[spot].tolist() == [other for _, other in others][:16]
    same = ("name", "patient", "label_source", "fingerprint", "encoder", "genes", "target_sum")
    assert all(getattr(part, name) == getattr(WHOLE, name) for name in same)


def test_expression_of_a_spot_does_not_depend_on_the_others() -> None:
    kept = WHOLE.xy[:, 0] > 3
    np.testing.assert_array_equal(WHOLE.subset(kept).expression(20), WHOLE.expression(20)[kept])


def test_the_section_itself_is_left_as_it_was() -> None:
    before = {f.name: getattr(WHOLE, f.name) for f in dataclasses.fields(Sample)}
    WHOLE.subset(WHOLE.labels != keys.UNDETERMINED)
    assert all(getattr(WHOLE, name) is value for name, value in before.items())


def test_without_image_and_labels_there_are_none_to_keep() -> None:
    plain = dataclasses.replace(WHOLE, image_features=None, labels=None)
    part = plain.subset(np.arange(N) < 30)
    assert part.image_features is None and part.labels is None and part.modality == keys.RNA


def test_fewer_neighbours_than_stored_are_never_made_up() -> None:
    """A shard may store fewer than there could be; and a small rest has no more than its spots."""
    few = dataclasses.replace(WHOLE, neighbors=nearest_neighbors(WHOLE.xy, 6))
    kept = np.arange(N) < 60
    assert few.subset(kept).neighbors.shape[1] == 6
    small = few.subset(np.arange(N) < 5)
    assert small.neighbors.shape[1] == 4
    with pytest.raises(SencaError, match="6 neighbours asked for"):
        small.nearest(6)


def test_k_counts_the_labels_that_are_left_without_undetermined() -> None:
    assert WHOLE.label_count() == 3
    assert WHOLE.subset(WHOLE.labels != keys.UNDETERMINED).label_count() == 3
    assert WHOLE.subset(WHOLE.labels != "cancer in situ").label_count() == 2
    assert WHOLE.subset(WHOLE.labels == keys.UNDETERMINED).label_count() == 0


def test_patches_stay_with_their_spots() -> None:
    patches = np.arange(N * 12, dtype=np.uint32).astype(np.uint8).reshape(N, 2, 2, 3)
    kept = WHOLE.xy[:, 0] > 3
    found = dataclasses.replace(WHOLE, patches=patches).subset(kept).patches
    assert found is not None and WHOLE.subset(kept).patches is None
    np.testing.assert_array_equal(found, patches[kept])
