import pytest
from hypothesis import given
from hypothesis import strategies as st

from senca_ray import keys
from senca_ray.study.folds import (
    ALL,
    LEAVE_ONE_OUT,
    NONE,
    SPLIT,
    TEST_PATIENTS,
    block_problems,
    fold_problems,
    make_folds,
)


def metas(samples: dict[str, str], **changes: str) -> dict[str, dict]:
    """Sample to patient; sections without image, annotated."""
    shared = {"modality": keys.RNA, "label_source": keys.ANNOTATED} | changes
    return {sample: {"sample": sample, "patient": patient, **shared} for sample, patient in samples.items()}


COHORT = metas({"A1": "A", "B1": "B", "B2": "B", "C1": "C", "D1": "D"})
COHORTS = st.dictionaries(st.text("abc1", min_size=1, max_size=3), st.sampled_from("PQRST"), min_size=3)


def test_without_selection_everyone_tunes() -> None:
    (fold,) = make_folds(COHORT, NONE)
    assert (fold.name, fold.tuning, fold.test) == (ALL, ("A1", "B1", "B2", "C1", "D1"), ())


def test_every_patient_is_left_out_once_and_then_nobody() -> None:
    folds = make_folds(COHORT, LEAVE_ONE_OUT)
    assert [f.name for f in folds] == ["without A", "without B", "without C", "without D", ALL]
    assert folds[1].test == ("B1", "B2") and folds[1].test_patients == ("B",)
    assert folds[1].tuning == ("A1", "C1", "D1")


@pytest.mark.parametrize("test", [("B",), ("B1", "B2"), ("B", "B1")])
def test_test_patients_are_named_by_themselves_or_by_all_their_sections(test: tuple[str, ...]) -> None:
    assert fold_problems(COHORT, TEST_PATIENTS, test) == []
    (fold,) = make_folds(COHORT, TEST_PATIENTS, test)
    assert (fold.name, fold.test_patients, fold.test) == (SPLIT, ("B",), ("B1", "B2"))
    assert fold.tuning == ("A1", "C1", "D1")


@given(COHORTS, st.sampled_from([NONE, LEAVE_ONE_OUT, TEST_PATIENTS]), st.data())
def test_no_patient_is_ever_on_both_sides(patients: dict[str, str], select: str, data: st.DataObject) -> None:
    cohort = metas(patients)
    names = sorted({*patients, *patients.values()})
    test = data.draw(st.lists(st.sampled_from(names), max_size=4)) if select == TEST_PATIENTS else []
    if fold_problems(cohort, select, test):
        return
    for fold in make_folds(cohort, select, test):
        assert sorted((*fold.tuning, *fold.test)) == sorted(cohort)
        sides = [{patients[s] for s in side} for side in (fold.tuning, fold.test)]
        assert sides[0].isdisjoint(sides[1]) and sides[0]
        assert sides[1] == set(fold.test_patients)


@pytest.mark.parametrize(
    ("select", "test", "words"),
    [
        (TEST_PATIENTS, (), ["no patients named"]),
        (TEST_PATIENTS, ("E", "A"), ["not there; expected patients (A, B, C, D)"]),
        (TEST_PATIENTS, ("B1",), ["splits patient B: B2 would tune"]),
        (TEST_PATIENTS, ("A", "B", "C1", "D"), ["every patient is a test patient"]),
        (TEST_PATIENTS, ("X", "B2"), ["not there", "splits patient B: B1"]),
        (NONE, ("A",), ["test patients go with select=test-patients"]),
        (LEAVE_ONE_OUT, ("A",), ["test patients go with select=test-patients"]),
    ],
)
def test_what_cannot_be_split_is_refused(select: str, test: tuple[str, ...], words: list[str]) -> None:
    problems = fold_problems(COHORT, select, test)
    assert len(problems) == len(words)
    assert all(word in p.message for word, p in zip(words, problems, strict=True))


def test_leaving_one_out_needs_three_patients() -> None:
    two = metas({"A1": "A", "A2": "A", "B1": "B"})
    assert "2 patients (A, B)" in fold_problems(two, LEAVE_ONE_OUT)[0].message
    assert fold_problems(two | metas({"C1": "C"}), LEAVE_ONE_OUT) == []


def test_a_name_that_means_two_patients_is_refused() -> None:
    confused = metas({"A": "B", "A1": "A", "C": "C"})
    assert (
        "names a patient and a section of patient B"
        in fold_problems(confused, TEST_PATIENTS, ["A"])[0].message
    )
    assert fold_problems(confused, TEST_PATIENTS, ["C"]) == []


def test_sections_that_are_never_one_mean_are_refused_with_the_way_to_choose() -> None:
    cohort = (
        metas({"A1": "A", "B1": "B"}, modality=keys.RNA_IMAGE)
        | metas({"C1": "C"})
        | metas({"C2": "C"}, label_source=keys.TRANSFERRED)
    )
    (problem,) = block_problems(cohort, ["ari"])
    assert "3 kinds of sections" in problem.message
    assert "labels annotated, with image (2): --sample A1 --sample B1" in problem.message
    assert "labels transferred, without image (1): --sample C2" in problem.message
    (problem,) = block_problems(cohort, ["silhouette"])
    assert "without image (2): --sample C1 --sample C2" in problem.message
    assert block_problems({s: cohort[s] for s in ("C1", "C2")}, ["chaos", "seconds"]) == []
    assert block_problems({s: cohort[s] for s in ("A1", "B1")}, ["ari", "seconds"]) == []


def test_labels_are_needed_only_where_the_objective_is_made_of_them() -> None:
    cohort = metas({"A1": "A", "B1": "B"}, label_source=keys.UNLABELLED)
    assert [p.sample for p in block_problems(cohort, ["seconds", "nmi"])] == ["A1", "B1"]
    assert block_problems(cohort, ["stability"]) == []


def test_the_roles_of_a_cohort_file_name_the_test_patients() -> None:
    cohort = metas({"A1": "A", "B1": "B", "C1": "C"}) | metas({"D1": "D"}, role=keys.TEST)
    assert fold_problems(cohort, TEST_PATIENTS) == []
    (fold,) = make_folds(cohort, TEST_PATIENTS)
    assert fold.test == ("D1",) and "D1" not in fold.tuning
    assert fold_problems(cohort, TEST_PATIENTS, ("D", "A")) == []


@pytest.mark.parametrize("select", [LEAVE_ONE_OUT, NONE])
def test_no_other_selection_tunes_on_what_a_cohort_file_keeps_for_tests(select: str) -> None:
    cohort = metas({"A1": "A", "B1": "B", "C1": "C"}) | metas({"D1": "D"}, role=keys.TEST)
    (problem,) = fold_problems(cohort, select)
    assert "keeps D1 for tests" in problem.message
    (problem,) = fold_problems(cohort, TEST_PATIENTS, ("A",))
    assert "D1 would tune" in problem.message
