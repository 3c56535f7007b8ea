"""Folds: which patients' sections tune a search and which test what was chosen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from senca_ray import keys
from senca_ray.errors import Problem
from senca_ray.study.objective import NEED_LABELS

NONE, LEAVE_ONE_OUT, TEST_PATIENTS = "none", "loo-patient", "test-patients"
SELECTS = (NONE, LEAVE_ONE_OUT, TEST_PATIENTS)
"""How test sections are kept apart: not at all, every patient in turn, or the same patients throughout."""

ALL, SPLIT = keys.FOLD_ALL, keys.FOLD_SPLIT
"""Names of the fold that tunes on everyone, and of the one that leaves the test patients out."""

_FEWEST = 3
"""Patients that leaving one out needs: with one tuning patient nothing is averaged."""

Metas = dict[str, dict[str, Any]]
"""What the shards say of themselves, by sample id."""


@dataclass(frozen=True)
class Fold:
    """One choice of a setting: on the tuning sections, scored on the test sections."""

    name: str
    tuning: tuple[str, ...]
    """Sample ids, patient by patient."""
    test: tuple[str, ...] = ()
    """Sample ids; none of their patients has a section among the tuning ones."""
    test_patients: tuple[str, ...] = ()


def samples_of(metas: Metas) -> dict[str, tuple[str, ...]]:
    """Sample ids of every patient, both in order of name."""
    patients = sorted({meta["patient"] for meta in metas.values()})
    return {p: tuple(sorted(s for s, meta in metas.items() if meta["patient"] == p)) for p in patients}


def make_folds(metas: Metas, select: str, test: Sequence[str] = ()) -> list[Fold]:
    """The folds of a search over these shards, for which `fold_problems` has found nothing.

    'loo-patient' gives a fold a patient, then the one of all patients: the setting to go on with.
    """
    samples = samples_of(metas)
    everyone = Fold(ALL, _joined(samples, samples))
    if select == NONE:
        return [everyone]
    if select == TEST_PATIENTS:
        return [_without(samples, SPLIT, test_patients(metas, test))]
    return [*(_without(samples, f"without {p}", (p,)) for p in samples), everyone]


def test_patients(metas: Metas, test: Sequence[str]) -> tuple[str, ...]:
    """The patients that `test` names, by themselves or by sections; left out, those of the cohort file."""
    samples = samples_of(metas)
    test = test or _by_role(metas)
    return tuple(p for p in samples if p in test or not set(samples[p]).isdisjoint(test))


def _by_role(metas: Metas) -> list[str]:
    """Sections that their cohort file keeps for tests."""
    return [sample for sample, meta in metas.items() if meta.get("role") == keys.TEST]


def fold_problems(metas: Metas, select: str, test: Sequence[str] = ()) -> list[Problem]:
    """Everything that keeps these shards from being split so."""
    samples = samples_of(metas)
    if select == TEST_PATIENTS:
        return _test_problems(metas, samples, test)
    problems = []
    if test:
        message = f"{', '.join(test)} found with select={select}; "
        message += f"test patients go with select={TEST_PATIENTS}"
        problems.append(Problem("-", "test", message))
    if kept := _by_role(metas):
        message = f"{select} found, and the cohort file keeps {', '.join(kept)} for tests; choose "
        message += f"{TEST_PATIENTS}, or take only the sections to tune on"
        problems.append(Problem("-", "select", message))
    if select == LEAVE_ONE_OUT and len(samples) < _FEWEST:
        message = f"{LEAVE_ONE_OUT} found with {len(samples)} patients ({', '.join(samples)}); "
        message += (
            f"expected {_FEWEST} or more, so that two are left to tune on; add other patients' sections"
        )
        problems.append(Problem("-", "select", message))
    return problems


def _test_problems(metas: Metas, samples: dict[str, tuple[str, ...]], test: Sequence[str]) -> list[Problem]:
    known = f"expected patients ({', '.join(samples)}) or their samples ({', '.join(sorted(metas))})"
    kept = _by_role(metas)
    if not test and not kept:
        return [Problem("-", "test", f"no patients named, here or by a cohort file's roles; {known}")]
    tested = (
        {*test, *(sample for patient in test for sample in samples.get(patient, ()))} if test else set(kept)
    )
    if tuning := sorted(set(kept) - tested):
        message = f"{', '.join(tuning)} would tune, which the cohort file keeps for tests; name them too"
        return [Problem("-", "test", message)]
    test = test or kept
    problems = []
    for name in dict.fromkeys(test):
        if name not in samples and name not in metas:
            problems.append(Problem(name, "test", f"not there; {known}"))
        elif name in samples and name in metas and metas[name]["patient"] != name:
            owner = metas[name]["patient"]
            message = f"names a patient and a section of patient {owner}; name the sections of the one meant"
            problems.append(Problem(name, "test", message))
    for patient, sections in samples.items():
        named = [s for s in sections if s in test]
        if patient not in test and named and len(named) < len(sections):
            rest = ", ".join(s for s in sections if s not in test)
            message = f"splits patient {patient}: {rest} would tune; name all sections of a patient or none"
            problems.append(Problem(", ".join(named), "test", message))
    if set(test_patients(metas, test)) == samples.keys():
        message = "every patient is a test patient; leave at least one to tune on"
        problems.append(Problem("-", "test", message))
    return problems


def block_problems(metas: Metas, objectives: Collection[str]) -> list[Problem]:
    """What keeps these sections from being one mean (design decision 15), with the way to choose some.

    Sections with and without image never are, nor, where an objective needs labels, those whose labels
    come from different sources.
    """
    by_labels = not NEED_LABELS.isdisjoint(objectives)
    blocks: dict[str, list[str]] = {}
    for sample, meta in metas.items():
        name = "with image" if meta["modality"] == keys.RNA_IMAGE else "without image"
        if by_labels:
            name = f"labels {meta['label_source']}, {name}"
        blocks.setdefault(name, []).append(sample)
    problems = []
    if len(blocks) > 1:
        message = f"{len(blocks)} kinds of sections found; expected one, they are never averaged. Choose one:"
        for name, samples in sorted(blocks.items()):
            options = " ".join(f"--sample {s}" for s in sorted(samples))
            message += f"\n    {name} ({len(samples)}): {options}"
        problems.append(Problem("-", "samples", message))
    if by_labels:
        needing = ", ".join(sorted(NEED_LABELS.intersection(objectives)))
        message = f"has no labels, which {needing} needs; leave it out or choose an objective without labels"
        unlabelled = [s for s, meta in metas.items() if meta["label_source"] == keys.UNLABELLED]
        problems += [Problem(s, "labels", message) for s in sorted(unlabelled)]
    return problems


def _joined(samples: Mapping[str, tuple[str, ...]], patients: Collection[str]) -> tuple[str, ...]:
    return tuple(s for p in patients for s in samples[p])


def _without(samples: dict[str, tuple[str, ...]], name: str, left_out: tuple[str, ...]) -> Fold:
    tuning = _joined(samples, [p for p in samples if p not in left_out])
    return Fold(name, tuning, _joined(samples, left_out), left_out)
