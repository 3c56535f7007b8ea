import math
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from search_toys import Store, cohort, drive, identity, toy_ari, toy_search

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.errors import ProblemsError, SencaError
from senca_ray.methods import CONTROLS, MODEL
from senca_ray.study.racing import FIRST_LOOK, hopeless
from senca_ray.study.search import Search
from senca_ray.study.search_plan import SearchPlan
from senca_ray.study.space import Range

EIGHT = {f"{p}1": p for p in "ABCDEFG"} | {"A2": "A", "H1": "H"}
FOUR = {"A1": "A", "B1": "B", "B2": "B", "C1": "C", "D1": "D"}


@pytest.fixture
def eight(tmp_path: Path) -> dict[str, str]:
    """Eight patients, one with two sections."""
    return cohort(tmp_path / "shards", EIGHT)


@pytest.fixture
def four(tmp_path: Path) -> dict[str, str]:
    return cohort(tmp_path / "shards", FOUR)


def whole(search: Search, shards: dict[str, str], path: Path, **driven: int) -> tuple[dict, Store, list]:
    store = Store()
    plan = SearchPlan(search, shards, store, path)
    started = drive(plan, store, **driven)
    assert len(started) <= search.most_trials(shards)
    return plan.selection(), store, started


def states(selection: dict, fold: int = 0) -> Counter:
    return Counter(s["state"] for s in selection["folds"][fold]["suggestions"])


@pytest.mark.parametrize("aggregate", ["mean", "median", "rank"])
def test_the_order_in_which_trials_end_changes_nothing(
    tmp_path: Path, eight: dict[str, str], aggregate: str
) -> None:
    search = toy_search(aggregate=aggregate, suggestions=14)
    selection, store, _ = whole(search, eight, tmp_path / "0.db", seed=0, slots=1)
    assert states(selection)["complete"] >= 2 and states(selection)["raced"] >= 2
    for seed, slots in ((1, 2), (2, 16))[: 2 if aggregate == "mean" else 1]:
        again, other, _ = whole(search, eight, tmp_path / f"{seed}.db", seed=seed, slots=slots)
        assert again == selection
        assert other.rows == store.rows  # the same trials ran


def test_another_sampler_seed_suggests_others(tmp_path: Path, four: dict[str, str]) -> None:
    first, _, _ = whole(toy_search(suggestions=4), four, tmp_path / "0.db")
    second, _, _ = whole(toy_search(suggestions=4, sampler_seed=1), four, tmp_path / "1.db")
    labels = [[s["label"] for s in one["folds"][0]["suggestions"]] for one in (first, second)]
    assert labels[0][0] == labels[1][0] == "default"
    assert set(labels[0][1:]).isdisjoint(labels[1][1:])


@pytest.mark.parametrize(
    "changes",
    [{}, {"select": "loo-patient", "racing": False, "suggestions": 13, "ahead": 2}],
    ids=["racing", "leaving one out"],
)
def test_a_killed_driver_is_gone_on_with_as_if_undisturbed(
    tmp_path: Path, eight: dict[str, str], four: dict[str, str], changes: dict
) -> None:
    search, shards = toy_search(**changes), four if changes else eight
    selection, undisturbed, started = whole(search, shards, tmp_path / "0.db")
    store, rng = Store(), np.random.default_rng(5)
    for kill in range(5):
        plan = SearchPlan(search, shards, store, tmp_path / "killed.db")
        drive(plan, store, seed=kill, stop_after=int(rng.integers(len(started) // 5)))
    plan = SearchPlan(search, shards, store, tmp_path / "killed.db")
    drive(plan, store, seed=9)
    assert plan.selection() == selection
    assert store.rows == undisturbed.rows
    assert set(store.times_run.values()) == {1}
    names = [f"s {fold['name']}" for fold in selection["folds"]]
    for name in names:
        ours = optuna_trials(tmp_path / "killed.db", name)
        assert ours == optuna_trials(tmp_path / "0.db", name)
        assert len(ours) == search.suggestions


def optuna_trials(path: Path, name: str) -> list[tuple]:
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{path}")
    return [
        (t.number, t.state, t.params, t.values, t.intermediate_values, t.user_attrs) for t in study.trials
    ]


def test_a_driver_killed_between_writing_and_telling_loses_nothing(
    tmp_path: Path, eight: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of pruning: the value is reported, the state is not yet there."""
    selection, _, _ = whole(toy_search(), eight, tmp_path / "0.db")
    store, write, path = Store(), optuna.storages.RDBStorage.set_trial_state_values, tmp_path / "1.db"

    def dies(storage: object, trial: int, state: TrialState, values: object = None) -> bool:
        if state == TrialState.PRUNED:
            raise KeyboardInterrupt
        return write(storage, trial, state, values)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(optuna.storages.RDBStorage, "set_trial_state_values", dies)
        with pytest.raises(KeyboardInterrupt):
            drive(SearchPlan(toy_search(), eight, store, path), store)
    assert TrialState.RUNNING in {state for _, state, *_ in optuna_trials(path, "s all")}
    plan = SearchPlan(toy_search(), eight, store, path)
    drive(plan, store)
    assert plan.selection() == selection
    assert optuna_trials(path, "s all") == optuna_trials(tmp_path / "0.db", "s all")


def test_a_finished_search_starts_nothing(tmp_path: Path, four: dict[str, str]) -> None:
    search = toy_search(suggestions=5)
    selection, store, _ = whole(search, four, tmp_path / "0.db")
    for path in ("0.db", "lost.db"):  # without the Optuna file it is made again from the rows
        plan = SearchPlan(search, four, store, tmp_path / path)
        assert plan.finished and plan.left == 0 and plan.next() is None
        assert plan.selection() == selection


def test_racing_starts_nothing_after_it_stopped_a_suggestion(tmp_path: Path, eight: dict[str, str]) -> None:
    selection, store, _ = whole(toy_search(), eight, tmp_path / "0.db")
    (fold,) = selection["folds"]
    run = {
        label: {s for m, own, s in store.rows if m == MODEL and own == label} for _, label, _ in store.rows
    }
    for one in fold["suggestions"]:
        patients = {EIGHT[s] for s in run[one["label"]]}
        assert len(patients) == one["patients"]
        if one["state"] == "raced":
            assert FIRST_LOOK <= len(patients) < 8
            assert one["values"] is not None
        else:
            assert run[one["label"]] == EIGHT.keys()
    for number, state, _, values, reported, _ in optuna_trials(tmp_path / "0.db", "s all"):
        one = fold["suggestions"][number]
        assert state.name == {"raced": "PRUNED", "complete": "COMPLETE"}[one["state"]]
        assert values == one["values"]
        assert reported == ({one["patients"]: values[0]} if one["state"] == "raced" else {})


def test_a_suggestion_races_against_the_best_that_was_told_when_it_was_asked_for(
    tmp_path: Path, eight: dict[str, str]
) -> None:
    """And is stopped at the first patient after which it is hopeless, whatever else has ended by then."""
    search = toy_search(ahead=6, suggestions=24, space={"mse_weight": Range(1.0, 1000.0, log=True)})
    selection, store, _ = whole(search, eight, tmp_path / "0.db", seed=3, slots=32)
    suggestions = selection["folds"][0]["suggestions"]

    def scores(one: dict) -> dict[str, float]:
        """By patient, in the order in which they ran."""
        found: dict[str, list[float]] = {}
        for (method, own, sample), rows in store.rows.items():
            if method == MODEL and own == one["label"]:
                found.setdefault(EIGHT[sample], []).append(np.mean([r[keys.ARI] for r in rows[:-1]]))
        return {patient: float(np.mean(found[patient])) for patient in order if patient in found}

    order = np.random.default_rng(search.sampler_seed).permutation(sorted(set(EIGHT.values()))).tolist()
    incumbents = set()
    for one in suggestions:
        told = [s for s in suggestions[: max(0, one["number"] - 5)] if s["state"] == "complete"]
        best = max(told, key=lambda s: s["values"][0], default=None)
        if best is None:
            assert one["state"] == "complete"
            continue
        incumbents.add(best["number"])
        mine, theirs = list(scores(one).values()), list(scores(best).values())
        looks = [
            hopeless(mine[:n], theirs[:n], maximise=True) for n in range(FIRST_LOOK, min(len(mine), 7) + 1)
        ]
        assert looks == [False] * (len(looks) - 1) + [one["state"] == "raced"]
    assert len(incumbents) >= 3
    assert states(selection)["raced"] >= 5


def test_without_racing_every_suggestion_meets_every_patient(tmp_path: Path, eight: dict[str, str]) -> None:
    racing, _, few = whole(toy_search(), eight, tmp_path / "0.db")
    plain, _, all_ = whole(toy_search(racing=False), eight, tmp_path / "1.db")
    assert states(plain) == {"complete": 16}
    assert len(few) < len(all_)
    first = [one["folds"][0]["suggestions"][:12] for one in (racing, plain)]
    assert [s["label"] for s in first[0]] == [s["label"] for s in first[1]]  # drawn at random until told ten


def test_a_suggestion_that_fails_on_a_section_is_told_so(tmp_path: Path, four: dict[str, str]) -> None:
    def breaks(setting: Setting, sample: str, seed: int) -> float:
        if sample == "B2" and seed == 1 and setting != Setting():
            return math.nan
        return toy_ari(setting, sample, seed)

    store = Store(breaks)
    plan = SearchPlan(toy_search(suggestions=4), four, store, tmp_path / "0.db")
    drive(plan, store)
    (fold,) = plan.selection()["folds"]
    assert [s["state"] for s in fold["suggestions"]] == ["complete", "failed", "failed", "failed"]
    assert fold["suggestions"][1]["values"] is None and fold["suggestions"][1]["patients"] == 3
    assert fold["chosen"] == "default"


def test_a_search_in_which_everything_fails_chooses_nothing(tmp_path: Path, four: dict[str, str]) -> None:
    store = Store(lambda setting, sample, seed: math.nan)
    search = toy_search(suggestions=3, select="test-patients", test=("A",))
    plan = SearchPlan(search, four, store, tmp_path / "0.db")
    drive(plan, store)
    assert plan.selection()["folds"][0]["chosen"] is None


def test_the_search_gets_better_than_the_default(tmp_path: Path, four: dict[str, str]) -> None:
    selection, _, _ = whole(toy_search(suggestions=30), four, tmp_path / "0.db")
    (fold,) = selection["folds"]
    best = max(fold["suggestions"], key=lambda s: s["values"][0])
    assert fold["chosen"] == best["label"] != "default"
    assert fold["suggestions"][0] == {
        "number": 0,
        "label": "default",
        "changes": {},
        "state": "complete",
        "values": [pytest.approx(0.6, abs=0.5)],
        "patients": 4,
    }
    learnt = [s["values"][0] for s in fold["suggestions"]]
    assert np.mean(learnt[-10:]) > np.mean(learnt[:10])


def test_leaving_one_out_keeps_the_left_out_patient_out_of_the_choice(
    tmp_path: Path, four: dict[str, str]
) -> None:
    """Other scores of patient B change the other folds' choices, never that of the fold without B."""
    search = toy_search(select="loo-patient", suggestions=16)

    def other(setting: Setting, sample: str, seed: int) -> float:
        honest = toy_ari(setting, sample, seed)
        return 5 - 9 * honest if FOUR[sample] == "B" else honest

    selections = []
    for number, ari in enumerate((toy_ari, other)):
        store = Store(ari)
        plan = SearchPlan(search, four, store, tmp_path / f"{number}.db")
        drive(plan, store, seed=number)
        selections.append({fold["name"]: fold for fold in plan.selection()["folds"]})
        for fold in plan.selection()["folds"]:
            assert (MODEL, fold["chosen"], "B1") in store.rows or "B1" not in fold["test_samples"]
    assert list(selections[0]) == ["without A", "without B", "without C", "without D", "all"]
    assert selections[0]["without B"] == selections[1]["without B"]
    assert selections[0]["without B"]["test_samples"] == ["B1", "B2"]
    assert all(selections[0][name] != selections[1][name] for name in ("without A", "all"))


def test_a_fold_wants_nothing_of_its_left_out_patient_but_the_chosen_setting(
    tmp_path: Path, four: dict[str, str]
) -> None:
    """With test patients there is no other fold that could have asked for more."""
    search = toy_search(select="test-patients", test=("B",))
    selection, store, _ = whole(search, four, tmp_path / "0.db")
    (fold,) = selection["folds"]
    assert (fold["name"], fold["test_patients"]) == ("split", ["B"])
    tested = {label for m, label, s in store.rows if m == MODEL and s in ("B1", "B2")}
    assert tested == {"default", fold["chosen"]}


def test_folds_share_their_first_suggestions_and_every_trial(tmp_path: Path, four: dict[str, str]) -> None:
    search = toy_search(select="loo-patient", suggestions=14, ahead=2)
    selection, store, started = whole(search, four, tmp_path / "0.db", slots=8)
    assert max(Counter(identity(t) for t in started).values()) == 1
    assert set(store.times_run.values()) == {1}
    labels = [[s["label"] for s in fold["suggestions"]] for fold in selection["folds"]]
    assert len({tuple(own[: search.alike]) for own in labels}) == 1


def test_default_and_controls_are_on_every_section(tmp_path: Path, four: dict[str, str]) -> None:
    _, store, started = whole(toy_search(suggestions=3), four, tmp_path / "0.db")
    expected = {
        (MODEL, "default"),
        ("untrained", "default"),
        ("smoothed-pca", "fixed"),
        ("coordinates", "fixed"),
    }
    assert expected <= {(t.method, t.label) for t in started}
    assert {m for m, _, _ in store.rows} == {MODEL, *CONTROLS} - {"smoothed-image"}  # no section has an image
    for method, label in expected:
        assert {s for m, own, s in store.rows if (m, own) == (method, label)} == FOUR.keys()


def test_the_search_comes_first_and_controls_fill_what_it_leaves_idle(
    tmp_path: Path, four: dict[str, str]
) -> None:
    store = Store()
    plan = SearchPlan(toy_search(ahead=1), four, store, tmp_path / "0.db")
    given = []
    while (trial := plan.next()) is not None:
        given.append(trial)
    assert [(t.label, t.method) for t in given[:5]] == [("default", MODEL)] * 5
    assert given[0].sample == "D1"  # the largest
    assert all(t.method != MODEL for t in given[5:]) and not plan.finished


def test_two_objectives_give_a_front(tmp_path: Path, four: dict[str, str]) -> None:
    search = toy_search(objectives=("ari", "seconds"), racing=False)
    selection, _, _ = whole(search, four, tmp_path / "0.db", seed=1)
    assert whole(search, four, tmp_path / "1.db", seed=2)[0] == selection
    (fold,) = selection["folds"]
    values = {s["label"]: s["values"] for s in fold["suggestions"]}
    front = {
        a
        for a, (x, y) in values.items()
        if not any((v > x and w <= y) or (v >= x and w < y) for v, w in values.values())
    }
    assert set(fold["front"]) == front and len(front) >= 2
    assert fold["chosen"] == max(values, key=lambda label: values[label][0])


def test_stability_is_searched_without_labels(tmp_path: Path) -> None:
    shards = cohort(tmp_path / "shards", FOUR, label_source=keys.UNLABELLED)
    selection, _, _ = whole(toy_search(objectives=("stability",), suggestions=4), shards, tmp_path / "0.db")
    assert states(selection) == {"complete": 4}
    with pytest.raises(ProblemsError, match="has no labels"):
        SearchPlan(toy_search(), shards, Store(), tmp_path / "1.db")


def test_a_search_that_leaves_open_how_far_it_goes_ahead_cannot_run(
    tmp_path: Path, four: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="ahead"):
        SearchPlan(toy_search(ahead=None), four, Store(), tmp_path / "0.db")


def test_a_storage_of_another_search_is_refused(tmp_path: Path, four: dict[str, str]) -> None:
    path = tmp_path / "0.db"
    SearchPlan(toy_search(), four, Store(), path)
    with pytest.raises(SencaError, match="another space"):
        SearchPlan(toy_search(space={"epochs": Range(2, 20)}), four, Store(), path)
    with pytest.raises(SencaError, match="other objectives"):
        SearchPlan(toy_search(objectives=("seconds",)), four, Store(), path)
    path.write_text("not a database, but long enough to be taken for one" * 100)
    with pytest.raises(SencaError, match="cannot be opened"):
        SearchPlan(toy_search(), four, Store(), path)


def test_rows_that_are_missing_are_not_taken_for_an_end(tmp_path: Path, four: dict[str, str]) -> None:
    store = Store()
    plan = SearchPlan(toy_search(), four, store, tmp_path / "0.db")
    trial = plan.next()
    assert trial is not None
    store.run(trial)
    del store.rows[identity(trial)][1]
    with pytest.raises(SencaError, match="without all of its result rows"):
        plan.ended(trial)
    again = SearchPlan(toy_search(), four, store, tmp_path / "0.db")
    assert again.next() == trial
