from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from html_page import Page
from study_folder import BENCHMARK, COHORT, NOT_INSTALLED, OTHER_ARI, Section, make_benchmark

from senca_ray import keys
from senca_ray.methods.protocol import Protocol
from senca_ray.report.benchmark import benchmark_content, featured
from senca_ray.report.html import write_report
from senca_ray.report.maps import NOT_CLUSTERED, NOT_CLUSTERED_COLOUR, overlay, section_maps
from senca_ray.report.view import StudyView, load_study, n_fits

WITH_IMAGE = "annotated, with image"


@pytest.fixture(scope="module")
def view(benchmark: Path) -> StudyView:
    return load_study(benchmark)


@pytest.fixture(scope="module")
def page(benchmark: Path) -> Page:
    return Page(write_report(benchmark))


def part(page: Page, begin: str, end: str) -> str:
    """The page's source from the heading with one id to that with another."""
    return page.source[page.source.index(f'<h2 id="{begin}"') : page.source.index(f'<h2 id="{end}"')]


def test_a_page_is_whole(page: Page) -> None:
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids)) and {a["href"][1:] for a in page.all("a")} <= set(ids)
    assert not page.all("script") and not page.all("link") and all(i["alt"] for i in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert "nan" not in page.text.lower().split() and "Choosing without labels" not in page.text
    wide = [a for _, a in page.tags if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in wide)


def test_the_headline_names_the_best_and_where_the_reference_stands(view: StudyView, page: Page) -> None:
    block = view.summary.query(f"block == '{WITH_IMAGE}' and clustering != 'consensus'")
    block = block[block["n_patients"] == 2].reset_index()
    place = 1 + int(block.index[block["is_default"]][0])
    best, reference = block.iloc[0], block.iloc[place - 1]
    name = f"{best['method']} ({best['clustering']})"
    assert f"{name} ({best['kind']}), mean ARI {best['mean_ari']:.3f}" in page.text
    assert f"mean ARI {reference['mean_ari']:.3f}, place {place} of {len(block)}" in page.text
    assert "Annotated, with image: 2 sections of 2 patients" in page.text
    assert "2 patients: too few to tell any method apart" in page.text
    assert "all spots clustered; undetermined left out of the score" in page.text
    assert "2 seeds a method (0 to 1; slow methods 1" in page.text


def test_a_method_that_failed_somewhere_has_no_place(view: StudyView) -> None:
    block = next(b for b in benchmark_content(view)["blocks"] if b["title"] == WITH_IMAGE)
    assert block["n_ranked"] == len(BENCHMARK) - 1 == len(block["rows"]) - 1
    row = next(row for row in block["rows"] if row["method"] == "bayesspace")
    assert row["mean_rank"] is None and (row["n_sections"], row["n_failed"]) == (1, 2)
    cells = next(cells for row, cells in block["tables"][0]["lines"] if row["method"] == "bayesspace")
    assert [cell["n_failed"] for cell in cells] == [0, 2]


def test_every_row_of_the_summary_stands_in_its_tables(view: StudyView, page: Page) -> None:
    for row in view.summary.dropna(subset=["mean_ari"]).to_dict("records"):
        consensus = row["clustering"] == keys.CONSENSUS
        name = row["method"] if consensus else f"{row['method']} ({row['clustering']})"
        name += " reference" if row["is_default"] else ""
        scores = [f"{row[n]:.3f}" for n in ("mean_ari", "median_ari")]
        start = 2 if consensus else 1
        assert any(r[0] == name and r[start : start + 2] == scores for r in page.rows), name
        difference = f"{row['mean_difference']:+.3f}".replace("-", "−")
        if not row["is_default"]:
            wins = f"{row['wins']} of {row['n_paired']}"
            assert any(r[0] == name and difference in r and wins in r for r in page.rows), name


def test_other_protocols_appear_in_the_sensitivity_table_alone(view: StudyView, page: Page) -> None:
    shown = f"{OTHER_ARI:.3f}"
    told = part(page, "sensitivity", "missing")
    assert shown in told and shown not in page.source.replace(told, "")
    assert set(view.compared[keys.PROTOCOL]) == {keys.UNSCORED} and set(view.results[keys.PROTOCOL]) > {
        keys.DROPPED
    }
    rows = [r for r in page.rows if r[0] == "undetermined spots left out of clustering and score"]
    assert len(rows) == 3, "one a block"
    assert rows[0][3] == shown and rows[0][4:6] == ["7 of 7", "0.000"], "the reference scores 0 there"


def test_what_is_missing_is_no_failure(view: StudyView, page: Page) -> None:
    content = benchmark_content(view)
    assert content["missing"] == [(NOT_INSTALLED, "not installed: `get it`")]
    assert [(f["method"], f["samples"], f["seeds"]) for f in content["failures"]] == [
        ("bayesspace", ["C1"], [0, 1])
    ]
    rows = view.compared[view.compared[keys.METHOD] != NOT_INSTALLED]
    assert f"2 of {n_fits(rows)} fits failed" in page.text
    # Two clusterings of one method are two readings of the same fits.
    const = rows[rows[keys.METHOD] == "const"]
    assert n_fits(const) == 4 * 2 and (const[keys.CLUSTERING] != keys.CONSENSUS).sum() == 4 * 2 * 2
    assert "1 method could not be run here" in page.text
    tables = part(page, "results", "sensitivity")
    assert NOT_INSTALLED not in tables
    assert re.search(r"Not run in this block, because they need an image: [^.]*\bsmoothed-image\b", page.text)
    assert page.text.count("because they need an image") == 1, "of the one block without"


def test_methods_say_whose_code_ran_and_with_what(view: StudyView, page: Page) -> None:
    methods = {m["name"]: m for m in benchmark_content(view)["methods"]}
    assert next(iter(methods)) == "senca" and methods["senca"]["follows"]
    assert ("iterations", "10000") in methods["bayesspace"]["settings"]
    assert methods["const"]["clusterings"] == ["leiden", "kmeans"]
    number = methods["bayesspace"]["number"]
    assert f'<a href="#method-{number}" title=' in page.source
    assert methods["bayesspace"]["checked"][:40] in page.text
    assert "Zhao et al., Nature Biotechnology 2021" in page.text


def test_maps_show_the_reference_the_best_null_and_then_the_best() -> None:
    rows = [("a", "x", keys.SIMPLE), ("a", "y", keys.SIMPLE), ("b", "x", keys.PUBLISHED)]
    rows += [(f"m{i}", "x", keys.PUBLISHED) for i in range(9)]
    rows += [("n", "x", keys.NULL), ("o", "x", keys.NULL), ("r", "x", keys.MODEL_KIND)]
    summary = pd.DataFrame(rows, columns=[keys.METHOD, keys.CLUSTERING, "kind"]).assign(
        block="here", is_default=lambda f: f[keys.METHOD] == "r", n_sections=2
    )
    summary.loc[summary[keys.METHOD] == "b", "n_sections"] = 0
    combined = summary.tail(1).assign(**{keys.CLUSTERING: keys.CONSENSUS})
    shown = featured(pd.concat([summary, combined]), "here")
    assert [row[keys.METHOD] for row in shown] == ["r", "n", "a", "m0", "m1", "m2", "m3", "m4"]
    assert shown[2][keys.CLUSTERING] == "x" and featured(summary, "there") == []


def test_maps_of_a_section(view: StudyView, page: Page) -> None:
    kinds = [(m.title, m.kind) for m in section_maps(view, "A1").maps]
    assert kinds[:4] == [
        ("labels", "labels"),
        ("senca (ward)", "reference"),
        ("consensus, senca", "consensus"),
        ("untrained (ward)", keys.NULL),
    ]
    assert len(kinds) == 3 + 6 and "const (leiden)" not in dict(kinds), "each with its best clustering"
    assert "smoothed-image (ward)" not in dict((m.title, 0) for m in section_maps(view, "B1").maps)
    alts = [image["alt"] for image in page.all("img") if image["alt"].startswith("Section C1, bayesspace")]
    assert alts == [] and "no regions: RuntimeError: loss is not finite" in page.text


@pytest.fixture(scope="module")
def dropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated benchmark over sections, whose protocol leaves undetermined spots out of clustering."""
    folder = tmp_path_factory.mktemp("dropped")
    protocol = Protocol(undetermined=keys.DROPPED)
    return make_benchmark(folder, COHORT[:2], protocol=protocol, unit="section", simulated=True)


@pytest.fixture(scope="module")
def dropped_page(dropped: Path) -> Page:
    return Page(write_report(dropped))


def test_spots_left_out_of_clustering_are_drawn_as_such(dropped: Path, dropped_page: Page) -> None:
    view = load_study(dropped)
    section = section_maps(view, "A1")
    labels = view.displays["A1"].labels
    assert labels is not None
    left_out = labels == keys.UNDETERMINED
    assert section.not_clustered == left_out.sum() > 0
    for shown in section.maps[1:]:
        assert shown.codes is not None
        np.testing.assert_array_equal(shown.codes == NOT_CLUSTERED, left_out)
        assert NOT_CLUSTERED_COLOUR in overlay(section, shown.codes)
    assert f"not clustered ({left_out.sum()})" in dropped_page.text


def test_a_unit_and_a_simulation_are_told(dropped_page: Page) -> None:
    page = dropped_page
    assert "its scores say nothing about accuracy on tissue" in page.text
    assert "the unit of all means and tests is the section" in page.text
    assert "claim too much" in page.text and "paired over sections" in page.text
    assert "undetermined left out of clustering and score" in page.text
    assert "Published scores" not in page.text, "nothing was published about simulated sections"


def test_published_scores_are_labelled_and_kept_apart(page: Page) -> None:
    # One patient, as in the block without image, allows no test of a mean.
    assert [r[1:3] for r in page.rows if r[0] == "ConGcR published"] == [["mean", "0.268"]]
    assert "published, not measured here" in page.text and "ConGcR" in part(page, "published", "missing")
    assert "ConGcR" not in part(page, "results", "published")


def test_names_do_no_harm(tmp_path: Path) -> None:
    evil = "<script>alert('$x$')<"
    folder = make_benchmark(tmp_path, (Section(evil, evil),), fails=lambda s, m: m == "const", seeds=1)
    study = json.loads((folder / keys.STUDY_FILE).read_text())
    (folder / keys.STUDY_FILE).write_text(json.dumps(study | {"title": evil, "data": evil}))
    for name in (keys.RESULTS_FILE, keys.REGIONS_FILE):
        table = pd.read_parquet(folder / name)
        table[keys.METHOD] = table[keys.METHOD].replace("smoothed-pca", evil)
        if keys.REASON in table:
            table[keys.REASON] = table[keys.REASON].where(table[keys.REASON].isna(), evil)
        table.to_parquet(folder / name)
    text = (folder / keys.SUMMARY_FILE).read_text().replace("smoothed-pca", evil)
    (folder / keys.SUMMARY_FILE).write_text(text)
    page = Page(write_report(folder))
    assert not page.all("script") and evil in page.text and evil not in page.source
    assert "of another package, which is not installed" in page.text


def test_without_labels_or_without_a_score_there_is_a_page(tmp_path: Path) -> None:
    unlabelled = make_benchmark(tmp_path / "u", (Section("U1", "U", label_source=keys.UNLABELLED),))
    page = Page(write_report(unlabelled))
    assert "There is no ARI in this block: its sections have no labels." in page.text
    assert any(i["alt"].startswith("Section U1, senca (ward): 4 regions") for i in page.all("img"))
    failed = make_benchmark(tmp_path / "f", COHORT[:1], fails=lambda sample, method: True)
    page = Page(write_report(failed))
    assert "There is no ARI in this block: every fit failed." in page.text


def test_without_its_reference_a_block_still_ranks(tmp_path: Path) -> None:
    page = Page(write_report(make_benchmark(tmp_path, COHORT[:1], seeds=1, fails=lambda s, m: m == "senca")))
    assert "The reference, senca, has no score in this block: nothing is compared with it." in page.text
    assert "Best of 7 rows" in page.text and "Against the reference" not in page.text


def test_a_section_costs_little_of_a_mail(tmp_path: Path) -> None:
    """36 sections of 600 spots have to stay far below 25 MB: here below 12."""
    sections = tuple(Section(f"S{i}", f"P{i}") for i in range(2))
    every = {(name, c): 0.5 for name in ("const", "stagate", "bayesspace") for c in ("ward", "kmeans")}
    folder = make_benchmark(tmp_path, sections, methods=BENCHMARK | every, seeds=1, side=25)
    assert write_report(folder).stat().st_size / 2 < 12e6 / 36
