"""A benchmark in a terminal of 80 columns."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from analysis.result_frames import frame
from analysis.test_benchmark_summary import FAILED, NULL, PCA, REFERENCE, agreed, fits, study
from rich.console import Console

from senca_ray import keys
from senca_ray.analysis.benchmark import benchmark_summary
from senca_ray.analysis.benchmark_tables import format_benchmark

MEANS = {"A1": 0.5, "A2": 0.3, "B1": 0.3, "C1": 0.6}
INSTALL = "not installed: `senca methods install spagcn`"
LACKING = fits("spagcn", FAILED, **{keys.REASON: INSTALL})


def said(*groups: list[dict[str, Any]], **changes: Any) -> list[str]:
    """The text of every table."""
    results, description = frame(*groups), study(**changes)
    summary = benchmark_summary(results, description)
    texts = []
    for table in format_benchmark(summary, results, description):
        console = Console(width=80, file=io.StringIO(), color_system=None)
        console.print(table)
        texts.append(console.file.getvalue())  # type: ignore[attr-defined]
    return texts


def plain(text: str) -> str:
    return " ".join(text.split())


def line(text: str, start: str) -> list[str]:
    """The cells of the one row (not the note) that begins with these words."""
    (found,) = [row for row in map(plain, text.splitlines()) if re.match(re.escape(start) + "[^:]*$", row)]
    return found.removeprefix(start).split()


ALL = (fits("senca", REFERENCE), fits("smoothed-pca", PCA), fits("coordinates", NULL), LACKING)


def test_the_heading_says_what_a_comparison_has_to_fix() -> None:
    (scores, *_) = said(*ALL, seeds=list(range(5)), slow_seeds=2, methods=["senca:ward", "graphst:gmm-tied"])
    heading = plain(scores[: scores.index("\nmethod")])
    assert heading.startswith(
        "annotated, without image: 4 sections of 3 patients, 5 seeds (0 to 4, slow methods 2)"
    )
    (scores, *_) = said(*ALL, seeds=list(range(5)), slow_seeds=2)
    assert "slow" not in scores, "none of its methods is"
    assert "k policy labels (oracle: taken from the labels)" in heading
    assert "all spots clustered; undetermined left out of the score" in heading
    changed = {keys.PROTOCOL: "dropped+refined", keys.K_POLICY: "auto"}
    rows = [fits("senca", REFERENCE, **changed), fits("coordinates", NULL, **changed)]
    (scores, *_) = said(*rows, undetermined="dropped", refined=True, k_policy="auto")
    heading = plain(scores[: scores.index("\nmethod")])
    assert "k policy auto; undetermined left out of clustering and score; regions refined" in heading


def test_scores_stand_in_their_order_with_what_they_cost() -> None:
    (scores, *_) = said(*ALL)
    assert line(scores, "senca (ward) *") == ["model", "0.433", "0.400", "0.071", "1.00", "500"]
    assert line(scores, "smoothed-pca (kmeans)")[:3] == ["simple", "0.250", "0.300"]
    places = [scores.index(name) for name in ("senca (", "smoothed-pca (", "coordinates (", "spagcn (")]
    assert places == sorted(places)


def test_a_method_that_is_not_installed_stands_there_with_the_way_to_get_it() -> None:
    (scores, *_) = said(*ALL)
    assert line(scores, "spagcn (")[-2:] == ["published", "4"], "a kind, four fits failed, and nothing else"
    assert plain(scores).count(f"spagcn: {INSTALL}") == 1


def test_nothing_is_cut_off_in_80_columns() -> None:
    text = "".join(said(*ALL, *(agreed(m, MEANS) for m in ("senca", "coordinates"))))
    assert "…" not in text and max(map(len, text.splitlines())) <= 80


def test_every_method_is_tested_against_the_reference() -> None:
    (_, tests, *_) = said(*ALL)
    assert plain(tests).startswith("annotated, without image: against senca (ward), paired over 3 patients")
    cells = line(tests, "smoothed-pca (kmeans)")
    assert cells[0] == "-0.183" and re.fullmatch(r"-0\.\d{3}", cells[1]) and cells[2] == "to"
    assert cells[4] == "0/3" and cells[-2:] == ["0.500", "0.500"]
    assert not re.search(r"^senca \(ward\) +[-+]", tests, re.MULTILINE), "not against itself"
    text = plain(tests)
    assert "spagcn (own): there is no score to compare" in text
    assert "Friedman over 3 methods and 3 patients" in text and "Holm's correction" in text
    (_, tests, *_) = said(*ALL, unit="section")
    assert "paired over 4 sections" in plain(tests) and "so few sections" in plain(tests)
    assert "4 sections: p" in plain(tests)


def test_without_a_comparison_there_is_no_table_of_tests() -> None:
    assert not any("paired over" in text for text in said(fits("senca", REFERENCE)))
    alone = said(fits("smoothed-pca", PCA), fits("coordinates", NULL))
    assert not any("paired over" in text for text in alone)


def test_what_failed_in_one_block_is_not_told_in_another() -> None:
    image = {keys.MODALITY: keys.RNA_IMAGE}
    texts = said(
        fits("senca", REFERENCE),
        fits("coordinates", NULL),
        fits("coordinates", {"D1": [None]}, reason="the disk is full", **image),
        fits("senca", {"D1": [0.5]}, **image),
    )
    with_image = [text for text in texts if text.startswith("annotated, with image")]
    assert any("the disk is full" in text for text in with_image)
    assert not any("the disk is full" in text for text in texts if text not in with_image)


@pytest.mark.parametrize("reason", ["expected one of [a, b]", "cannot open [/data/A1]", "a[bold]b"])
def test_a_reason_is_shown_as_it_is(reason: str) -> None:
    """Whatever a package raises: a bracket is no markup."""
    failed = fits("coordinates", FAILED, reason=reason)
    (scores, *_) = said(fits("senca", REFERENCE), failed)
    assert f"coordinates: {reason}" in plain(scores)


def test_the_consensus_has_a_table_of_its_own() -> None:
    lower = {s: v - 0.1 - 0.01 * i for i, (s, v) in enumerate(MEANS.items())}
    texts = said(*ALL, agreed("senca", MEANS), agreed("coordinates", lower))
    (text,) = [t for t in texts if "consensus" in t]
    assert plain(text).startswith(
        "annotated, without image: consensus of each method's seeds, against that of senca"
    )
    assert line(text, "senca")[-1] == "reference" and line(text, "senca")[:3] == ["0.433", "0.400", "0.500"]
    assert line(text, "coordinates")[3:] == ["-0.118", "0/3", "0.250"]


def test_every_section_is_shown_eight_to_a_table_best_method_first() -> None:
    samples = [f"{letter}1" for letter in "ABCDEFGHIJ"]
    texts = said(
        fits("coordinates", {s: [0.1, 0.2] for s in samples}),
        fits("senca", {s: [i / 10, i / 10] for i, s in enumerate(samples)}),
    )
    first, second = (t for t in texts if "ARI by section" in plain(t))
    assert line(first, "senca (ward)") == [f"0.{i}00" for i in range(8)]
    assert line(first, "coordinates (kmeans)") == ["0.150"] * 8
    assert line(second, "senca (ward)") == ["0.800", "0.900"] and line(second, "method") == ["I1", "J1"]
    assert first.index("senca (") < first.index("coordinates (")


def test_a_section_without_a_score_stays_empty() -> None:
    texts = said(fits("senca", REFERENCE), fits("coordinates", {"A1": [0.1], "B1": [None]}))
    (text,) = [t for t in texts if "ARI by section" in plain(t)]
    assert line(text, "coordinates (kmeans)") == ["0.100"]


def test_what_the_ranking_owes_to_the_protocol() -> None:
    dropped = {keys.PROTOCOL: "dropped"}
    other = [
        fits("senca", NULL, **dropped),
        fits("smoothed-pca", PCA, **dropped),
        fits("coordinates", REFERENCE, **dropped),
    ]
    texts = said(*ALL, *other)
    (text,) = [t for t in texts if "what the ranking owes to the protocol" in t]
    assert line(text, "as reported senca (ward) 0.433") == ["1.000", "1", "of", "3", "0.433"]
    assert line(text, "undetermined dropped") == [
        *("coordinates", "(kmeans)", "0.433"),
        *("-1.000", "3", "of", "3", "0.100"),
    ]
    assert re.search(r"undetermined dropped: \S+ \(\S+\) from place \d to \d", plain(text))
    assert not any("owes to the protocol" in text for text in said(*ALL))


def test_published_scores_stand_apart_and_never_beside_a_simulated_cohort() -> None:
    named = (fits("senca", {"B1": [0.3], "C1": [0.5]}), fits("coordinates", {"B1": [0.1], "C1": [0.2]}))
    (text,) = [t for t in said(*named) if "what papers print" in t]
    assert line(text, "ConGcR ")[-3:-1] == ["0.268", "0.400"]
    assert "never mixed with what was measured here" in plain(text)
    assert not any("what papers print" in t for t in said(*named, simulated=True))
    assert not any("what papers print" in t for t in said(*ALL)), "A2 is none of the eight sections"


def test_sections_that_nobody_could_read_are_named() -> None:
    unread = {keys.PATIENT: None, keys.MODALITY: None, keys.LABEL_SOURCE: None}
    texts = said(*ALL, fits("senca", {"X1": [None]}, **unread), fits("coordinates", {"X1": [None]}, **unread))
    (text,) = [t for t in texts if "could not be read" in t]
    assert "out of memory" in text
