from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senca_ray import keys
from senca_ray.bench import scale, sections
from senca_ray.data.shards import read_sample


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return scale.write(str(tmp_path_factory.mktemp("scale")), 300)


def test_a_simulated_tissue_is_labelled_and_has_the_size_asked_for(shard: str) -> None:
    sample = read_sample(shard, 500)
    assert sample.counts.shape == (300, 500) and len(np.unique(sample.xy, axis=0)) == 300
    assert sample.label_source == keys.SIMULATED and 2 <= sample.label_count() <= sections.LABELS
    assert sample.image_features is not None and sample.image_features.shape == (300, sections.FEATURES)
    again, other = (sections.tissue_content(300, seed=seed) for seed in (0, 1))
    assert (again.counts != sample.counts).nnz == 0
    assert again.meta["fingerprint"] != other.meta["fingerprint"]


def test_both_forms_are_compared_with_each_other_and_the_labels(shard: str) -> None:
    measured = scale.compare_forms(shard, seeds=2)
    assert set(measured["label_ari"]) == {keys.EXACT, keys.LARGE}
    # So small a section has a cell for every spot and contrasts all of them.
    assert measured["forms"] > 0.5
    figures = {figure.name: figure for figure in scale.agreement_figures(measured)}
    assert figures["scale.forms"].bound == figures["scale.seeds"].median == measured["between_seeds"]
    assert all("simulated" in figure.note for figure in figures.values())


def test_what_misses_is_said() -> None:
    measured = {"forms": 0.4, "between_seeds": 0.5, "label_ari": {keys.EXACT: 0.5, keys.LARGE: 0.47}}
    figures = {figure.name: figure.met for figure in scale.agreement_figures(measured)}
    assert figures["scale.forms"] is False and figures["scale.labels.apart"] is False


def test_seconds_and_memory_of_a_fit(shard: str) -> None:
    measured = scale.fit_large(shard)
    assert measured["seconds"] > 0 and measured["memory"] > 50


def test_half_a_million_spots_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def fresh(function: object, **arguments: object) -> object:
        if function is scale.write:
            written.append(arguments["n_spots"])
            return str(Path("shard"))
        if function is scale.compare_forms:
            return {"forms": 0.6, "between_seeds": 0.5, "label_ari": {keys.EXACT: 0.5, keys.LARGE: 0.5}}
        return {"seconds": 1.0, "memory": 2.0}

    monkeypatch.setattr(scale, "fresh", fresh)
    figures = scale.measure(2, lambda text: None)
    assert written == [5_000, 50_000] and len(figures) == 5 + 2
    assert len(scale.measure(1, lambda text: None, long=True)) == 5 + 4 and written[-1] == 500_000
