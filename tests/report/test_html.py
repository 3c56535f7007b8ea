from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from html_page import Page
from study_folder import ABLATION, COHORT, PATIENTS, Section, make_search, make_study

from senca_ray import keys
from senca_ray.report.html import write_report


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    path = write_report(finished)
    assert path == finished / keys.REPORT_FILE
    assert [p.name for p in finished.iterdir() if "tmp" in p.name] == []
    return Page(path)


def test_nothing_is_fetched_or_run(page: Page) -> None:
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:", "#")), attributes[name][:80]
    assert not page.all("script") and not page.all("link")
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert all(url.startswith("data:") for url in re.findall(r"url\((.*?)\)", page.source))
    assert any("default-src 'none'" in m.get("content", "") for m in page.all("meta"))


def test_links_lead_somewhere_and_images_are_described(page: Page) -> None:
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.all("a")} <= set(ids)
    assert all(image["alt"] for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_statistics_are_those_of_the_summary(finished: Path, page: Page) -> None:
    summary = pd.read_csv(finished / keys.SUMMARY_FILE)
    for row in summary.to_dict("records"):
        name = row["setting"] if row["method"] == "senca" else row["method"]
        beginning = [row["clustering"], *(f"{row[n]:.3f}" for n in ("mean_ari", "median_ari"))]
        found = [r for r in page.rows if r[0].startswith(name) and r[1:4] == beginning]
        assert len(found) == 1, (row["block"], name)
        if not row["is_default"]:
            assert found[0][7] == f"{row['mean_difference']:+.3f}".replace("-", "−")
            assert (
                found[0][9] == "–" if pd.isna(row["t_p"]) else found[0][9].startswith(f"{row['t_p']:.2g} (")
            )
    assert sum("control" in r[0] and r[1] in ("ward", "kmeans") for r in page.rows if len(r) > 1) == 11
    assert "nan" not in page.text.lower().split()


def test_a_consensus_is_a_group_of_its_own_with_its_own_control(finished: Path, page: Page) -> None:
    summary = pd.read_csv(finished / keys.SUMMARY_FILE).query("block == 'annotated, with image'")
    start = next(i for i, r in enumerate(page.rows) if r[0].startswith("Consensus of the seeds"))
    assert all(r[1] != keys.CONSENSUS for r in page.rows[:start])
    group = [r for r in page.rows[start + 1 :] if r[1:2] == [keys.CONSENSUS]]
    stability = summary.query("method == 'untrained' and clustering == 'consensus'")["stability"].iloc[0]
    assert any(r[0].startswith("untrained") and r[4] == f"stability {stability:.3f}" for r in group)
    assert "Annotated, with image, consensus of the seeds" in page.text
    best = re.search(r"Best control \(([a-z-]+)\): mean ARI ([0-9.]+)", page.text)
    assert best and best[2] in {
        f"{v:.3f}"
        for v in pd.read_csv(finished / keys.SUMMARY_FILE).query(
            f"method == '{best[1]}' and clustering != 'consensus'"
        )["mean_ari"]
    }


def test_blocks_are_never_one_mean(page: Page) -> None:
    headings = (
        "Annotated, without image: 1 section of 1 patient",
        "Annotated, with image: 2 sections of 2 patients",
        "Transferred labels, with image: 1 section of 1 patient",
    )
    assert all(heading in page.text for heading in headings)


def test_a_section_says_what_it_is(page: Page) -> None:
    assert "no image: the image branch is absent" in page.text
    assert "transferred labels: approximate" in page.text
    assert "3 spots without counts were left out" in page.text
    for sample in ("A1", "A2", "B1", "C1"):
        alts = [image["alt"] for image in page.all("img") if image["alt"].startswith(f"Section {sample},")]
        assert len(alts) == {"A1": 9, "A2": 9, "B1": 8, "C1": 8}[sample]
        assert any(re.search(r"neighbors=4: ARI 0\.\d{3}, 4 regions, seed \d", alt) for alt in alts)
        combined = [alt for alt in alts if "consensus" in alt]
        assert len(combined) == 1 and "4 regions, 3 seeds combined, stability 0." in combined[0]


def test_recovery_is_that_of_the_row_shown(finished: Path, page: Page) -> None:
    results = pd.read_parquet(finished / keys.RESULTS_FILE)
    alt = next(i["alt"] for i in page.all("img") if i["alt"].startswith("Section B1, neighbors=4"))
    seed = int(alt.rsplit(" ", 1)[1])
    row = results.query(
        f"sample == 'B1' and setting == 'neighbors=4' and method == 'senca' and seed == {seed}"
    )
    found = json.loads(row[keys.LABEL_F1].iloc[0])
    assert any(r[0] == "invasive cancer" and r[2] == f"{found['invasive cancer']:.3f}" for r in page.rows)
    assert any(r[0] == "invasive cancer told from cancer in situ (AMI)" for r in page.rows)


def test_failures_are_told(page: Page) -> None:
    assert [
        "C1",
        "senca",
        "neighbors=16",
        "0, 1, 2, consensus",
        "RuntimeError: loss is not finite",
    ] in page.rows
    assert "3 of 75 fits failed" in page.text
    assert "no regions: RuntimeError: loss is not finite" in page.text


def test_protocol_settings_and_versions(page: Page) -> None:
    assert "undetermined left out of the score" in page.text and "labels (oracle)" in page.text
    rows = {tuple(r) for r in page.rows}
    assert {("mse_weight", "40.0"), ("max_neighbors", "16"), ("torch", "2.13.0")} <= rows
    assert "SIMULATED" not in page.text


def test_a_simulated_cohort_says_so_first(tmp_path: Path) -> None:
    page = Page(write_report(make_study(tmp_path, COHORT[:1], simulated=True)))
    assert "its scores say nothing about accuracy on tissue" in page.text
    assert page.text.index("SIMULATED") < page.text.index("Results")


def test_names_from_the_cohort_do_no_harm(tmp_path: Path) -> None:
    evil = "<script>alert('x')<"
    section = Section(evil, f'{evil}"', notes=(f"{evil}img src=x onerror=y>",))
    folder = make_study(tmp_path, (section,))
    study = json.loads((folder / keys.STUDY_FILE).read_text())
    (folder / keys.STUDY_FILE).write_text(json.dumps(study | {"title": evil, "data": evil}))
    page = Page(write_report(folder))
    assert not page.all("script") and evil in page.text and evil not in page.source
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]


def test_sections_without_labels_have_a_page(tmp_path: Path) -> None:
    page = Page(write_report(make_study(tmp_path, (Section("U1", "U", label_source=keys.UNLABELLED),))))
    assert "There is no ARI in this block" in page.text
    assert any(i["alt"].startswith("Section U1, neighbors=8: 4 regions") for i in page.all("img"))


def test_a_study_of_failures_has_a_page(tmp_path: Path) -> None:
    page = Page(write_report(make_study(tmp_path, fails=lambda sample, setting: True)))
    assert "75 of 75 fits failed. There is no result" in page.text
    assert page.text.count("There is no ARI in this block: every fit failed.") == 3
    labels = [image["alt"] for image in page.all("img")]
    assert labels == [f"Section {sample}, labels" for sample in ("A1", "A2", "B1", "C1")]


def test_a_lost_shard_costs_its_own_section_only(tmp_path: Path) -> None:
    folder = make_study(tmp_path)
    shutil.rmtree(next((tmp_path / "shards").glob("A1-*")))
    page = Page(write_report(folder))
    assert "This section cannot be shown" in page.text and "senca prepare" in page.text
    assert any(i["alt"].startswith("Section C1") for i in page.all("img"))


def test_a_section_costs_little_of_a_mail(tmp_path: Path) -> None:
    """36 sections of 600 spots have to stay far below 25 MB: here below 10."""
    sections = tuple(Section(f"S{i}", f"P{i}") for i in range(3))
    size = write_report(make_study(tmp_path, sections, seeds=1, side=25)).stat().st_size
    assert size / 3 < 10e6 / 36


def test_an_ablation_says_what_each_variant_changes(ablation: Path) -> None:
    page = Page(write_report(ablation))
    assert "5 variants: full, without cross-attention weights" in page.text
    assert ["without graph", "graph=False"] in page.rows and [
        "full",
        "as the model settings say",
    ] in page.rows
    rows = [r[0] for r in page.rows if len(r) > 3 and r[1] in ("ward", keys.CONSENSUS)]
    assert rows[:5] == ["full default", *(name for name in ABLATION if name != "full")]
    assert any(i["alt"].startswith("ARI by setting, annotated") for i in page.all("img"))


def test_names_of_variants_do_no_harm(tmp_path: Path) -> None:
    evil = "<script>alert('$x_1$')<"
    variants = {"full": {}, evil: {"graph": False}}
    folder = make_study(tmp_path, COHORT[:1], variants=variants, vary=None, default="full", seeds=2)
    page = Page(write_report(folder))
    assert not page.all("script") and evil in page.text and evil not in page.source


def test_a_study_of_the_first_schema_has_the_same_page(finished: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(finished, tmp_path / "old"))
    study = json.loads((old / keys.STUDY_FILE).read_text())
    first = {name: value for name, value in study.items() if name not in ("kind", "variants")}
    first |= {"schema": 1, "values": [4, 8, 16], "default": 4}
    (old / keys.STUDY_FILE).write_text(json.dumps(first))
    assert write_report(old).read_bytes() == write_report(finished).read_bytes()


@pytest.fixture(scope="module")
def tuned(search: Path) -> Page:
    return Page(write_report(search))


def test_a_search_s_parts_come_in_order(tuned: Page) -> None:
    parts = (
        "The tuned setting: mean ARI",
        "Statistics: annotated, with image",
        "The setting chosen in each fold",
        "Tuning score of every suggestion",
        "against the value of each searched field",
        "The best suggestions by tuning score",
        "How well label-free objectives rank the settings",
    )
    places = [tuned.text.index(part) for part in parts]
    assert places == sorted(places)


def test_only_patients_left_out_have_test_scores(search: Path, tuned: Page) -> None:
    summary = pd.read_csv(search / keys.SUMMARY_FILE)
    expected = summary.query("setting == 'tuned' and clustering != 'consensus'")["mean_ari"].iloc[0]
    assert f"The tuned setting: mean ARI {expected:.3f}" in tuned.text
    selection = json.loads((search / keys.SELECTION_FILE).read_text())
    results = pd.read_parquet(search / keys.RESULTS_FILE)
    for fold in selection["folds"]:
        words = "all patients" + (f" but {fold['test_patients'][0]}" if fold["test_patients"] else "")
        line = next(r for r in tuned.rows if r[0] == words)
        score = next(s["values"][0] for s in fold["suggestions"] if s["label"] == fold["chosen"])
        assert (line[1], line[3]) == (fold["chosen"], f"{score:.3f}")
        rows = results[
            results[keys.SAMPLE].isin(fold["test_samples"])
            & (results[keys.SETTING] == fold["chosen"])
            & (results[keys.SEED] >= 0)
        ]
        assert line[5] == (f"{rows[keys.ARI].mean():.3f}" if len(rows) else "–")


def test_a_search_s_best_are_called_tuning_scores(search: Path, tuned: Page) -> None:
    fold = json.loads((search / keys.SELECTION_FILE).read_text())["folds"][0]
    header = next(i for i, r in enumerate(tuned.rows) if r[0] == "number")
    assert tuned.rows[header][4] == "tuning score: mean ARI over patients"
    lines = tuned.rows[header + 1 : header + 1 + len(fold["suggestions"])]
    scores = [float(line[4]) for line in lines if line[3] == "complete"]
    assert scores == sorted(scores, reverse=True) and len(scores) == 7
    assert lines[0][1] == f"{fold['chosen']} chosen" and [line[3] for line in lines[-2:]] == [
        "raced",
        "failed",
    ]


def test_every_section_of_a_search_shows_what_was_chosen_without_it(search: Path, tuned: Page) -> None:
    alts = [image["alt"] for image in tuned.all("img")]
    for section in PATIENTS:
        shown = [alt for alt in alts if alt.startswith(f"Section {section.sample}, tuned")]
        assert len(shown) == 1 and "ARI" in shown[0]
        assert any(alt.startswith(f"Section {section.sample}, consensus, tuned") for alt in alts)


def test_without_patients_left_out_there_is_no_test_score(tmp_path: Path) -> None:
    folder = make_search(tmp_path, select="none", suggestions=6)
    chosen = json.loads((folder / keys.SELECTION_FILE).read_text())["folds"][0]["chosen"]
    page = Page(write_report(folder))
    assert "No test score: every section took part in the choice." in page.text
    assert not [cell for row in page.rows for cell in row if cell == "tuned" or cell.startswith("test score")]
    assert any(i["alt"].startswith(f"Section A1, {chosen}: ARI") for i in page.all("img"))
    assert "chosen here too" in page.text


def test_named_test_patients_are_the_only_ones_compared(tmp_path: Path) -> None:
    page = Page(write_report(make_search(tmp_path, select="test-patients", suggestions=6)))
    assert "Annotated, with image: 1 section of 1 patient" in page.text
    assert "The setting was chosen without the test patients (A)" in page.text
    alts = [image["alt"] for image in page.all("img")]
    assert any(alt.startswith("Section A1, tuned") for alt in alts)
    assert any(alt.startswith("Section B1, s-") for alt in alts)


def test_two_objectives_end_with_a_front(tmp_path: Path) -> None:
    folder = make_search(tmp_path, select="none", objectives=(keys.ARI, keys.SECONDS), suggestions=8)
    front = json.loads((folder / keys.SELECTION_FILE).read_text())["folds"][0]["front"]
    page = Page(write_report(folder))
    assert "Both tuning scores of every suggestion" in page.text
    assert sorted(r[1] for r in page.rows if len(r) > 1 and r[1].endswith(" front")) == sorted(
        f"{label} front" for label in front
    )


def test_a_search_in_which_everything_failed_has_a_page(tmp_path: Path) -> None:
    folder = make_search(tmp_path, suggestions=6)
    selection = json.loads((folder / keys.SELECTION_FILE).read_text())
    for fold in selection["folds"]:
        fold["chosen"] = None
        for one in fold["suggestions"]:
            one |= {"state": "failed", "values": None, "patients": 0}
    (folder / keys.SELECTION_FILE).write_text(json.dumps(selection))
    page = Page(write_report(folder))
    assert "No test score: nothing was chosen." in page.text
    assert "no suggestion was scored on all patients" in page.text
