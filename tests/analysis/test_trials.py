from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senca_ray import keys
from senca_ray.analysis.trials import MEASURES, losses_by_epoch, own_rows, trial_table, typical_row


def row(seed: int, ari: float | None = 0.5, **changed: Any) -> dict[str, Any]:
    known = {keys.METHOD: "senca", keys.SETTING: "default", keys.SAMPLE: "A1", keys.SEED: seed}
    known |= {keys.CLUSTERING: "ward", keys.K_POLICY: "labels", keys.PROTOCOL: keys.UNSCORED}
    known |= {keys.PATIENT: "A", keys.MODALITY: keys.RNA, keys.LABEL_SOURCE: keys.ANNOTATED}
    known |= dict.fromkeys((*MEASURES, keys.STABILITY, keys.N_SEEDS, keys.REASON, keys.TYPICAL))
    return known | {keys.STATUS: keys.OK, keys.ARI: ari} | changed


def failed(seed: int, reason: str, **changed: Any) -> dict[str, Any]:
    return row(seed, None, **{keys.STATUS: keys.FAILED, keys.REASON: reason} | changed)


def test_a_trial_is_the_mean_and_sd_over_the_seeds_that_did_not_fail() -> None:
    rows = [row(0, 0.2), row(1, 0.6), failed(2, "loss is not finite"), row(0, 0.9, sample="B1")]
    table = trial_table(pd.DataFrame(rows)).set_index(keys.SAMPLE)
    first = table.loc["A1"]
    assert first["ari_mean"] == pytest.approx(0.4) and first["ari_sd"] == pytest.approx(np.sqrt(0.08))
    assert (first[keys.N_SEEDS], first["n_failed"]) == (2, 1)
    assert first[keys.REASON] == "seed 2: loss is not finite"
    assert table.loc["B1", "ari_mean"] == 0.9 and np.isnan(table.loc["B1", "ari_sd"])
    assert np.isnan(first["nmi_mean"]) and first["block"] == "annotated, without image"


def test_a_trial_that_failed_as_a_whole_has_a_row_with_its_reasons() -> None:
    nothing = {keys.PATIENT: None, keys.MODALITY: None, keys.LABEL_SOURCE: None}
    table = trial_table(pd.DataFrame([failed(seed, "cannot be read", **nothing) for seed in (0, 1)]))
    assert table["n_failed"].tolist() == [2] and table[keys.N_SEEDS].tolist() == [0]
    assert table[keys.REASON].tolist() == ["seed 0: cannot be read; seed 1: cannot be read"]


def test_readings_are_apart_and_a_consensus_counts_the_seeds_it_combines() -> None:
    combined = {keys.CLUSTERING: keys.CONSENSUS, keys.STABILITY: 0.7, keys.N_SEEDS: 2}
    rows = [row(0, 0.1), row(1, 0.3), row(0, 0.8, clustering="leiden"), row(keys.ALL_SEEDS, 0.5, **combined)]
    table = trial_table(pd.DataFrame(rows)).set_index(keys.CLUSTERING)
    assert table["ari_mean"].to_dict() == pytest.approx({"ward": 0.2, "leiden": 0.8, keys.CONSENSUS: 0.5})
    assert table[keys.N_SEEDS].to_dict() == {"ward": 2, "leiden": 1, keys.CONSENSUS: 2}
    assert table.loc[keys.CONSENSUS, keys.STABILITY] == 0.7


def test_the_own_reading_is_the_one_with_a_typical_seed() -> None:
    rows = [row(0, clustering="kmeans"), row(0, clustering="leiden", typical=False)]
    rows += [row(1, clustering="leiden", typical=True), row(keys.ALL_SEEDS, clustering=keys.CONSENSUS)]
    own = own_rows(pd.DataFrame(rows))
    assert set(own[keys.CLUSTERING]) == {"leiden"} and len(own) == 2
    shown = typical_row(own)
    assert shown is not None and shown[keys.SEED] == 1


def test_of_an_older_study_it_is_the_method_s_first_clustering_and_the_first_seed() -> None:
    rows = pd.DataFrame([row(seed, clustering=name) for name in ("kmeans", "leiden") for seed in (1, 0)])
    own = own_rows(rows, ("leiden", "kmeans"))
    assert set(own[keys.CLUSTERING]) == {"leiden"}
    shown = typical_row(own)
    assert shown is not None and shown[keys.SEED] == 0
    assert set(own_rows(rows)[keys.CLUSTERING]) == {"kmeans"}
    assert typical_row(pd.DataFrame([failed(0, "no")])) is None


numbers = st.floats(-1e6, 1e6, width=32)


@given(st.lists(st.lists(numbers, max_size=6), max_size=4))
def test_every_epoch_has_the_mean_the_lowest_and_the_highest_loss(
    seeds: list[list[float]],
) -> None:
    table = losses_by_epoch([np.array(one, np.float32) for one in seeds])
    assert len(table) == max((len(one) for one in seeds), default=0)
    for epoch, found in enumerate(table.to_dict("records")):
        then = [one[epoch] for one in seeds if len(one) > epoch]
        assert (found["loss_low"], found["loss_high"]) == (min(then), max(then)), json.dumps(seeds)
        assert found["loss"] == pytest.approx(np.mean(then), abs=1e-6 * max(map(abs, then)) + 1e-30)
