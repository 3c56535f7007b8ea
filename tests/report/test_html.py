from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import study_folder
from html_page import Page
from portrait_toys import write_toy_portraits
from study_folder import ABLATION, COHORT, PATIENTS, Section, make_benchmark, make_search, make_study

from senca_ray import keys
from senca_ray.analysis.kind_control import KindControl, write_control
from senca_ray.analysis.portrait import write_portrait
from senca_ray.analysis.tables import LABEL_FREE_NOTE
from senca_ray.report import view as study_view
from senca_ray.report.cohort import rests_on
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


def test_controls_that_no_section_could_have_are_not_listed(page: Page, tmp_path: Path) -> None:
    image = "image only: the encoder's features"
    assert image in page.text
    without = Page(write_report(make_study(tmp_path, (Section("B1", "B", image=False),))))
    assert image not in without.text and "expression only: 2,000 HVGs" in without.text


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


UNLABELLED = tuple(dataclasses.replace(s, label_source=keys.UNLABELLED) for s in PATIENTS)


@pytest.fixture
def scored_without_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up studies have all scores that need no labels, as real ones do."""
    made = study_folder._scores

    def scores(*given: Any) -> dict[str, Any]:
        found = made(*given)
        return found | {keys.CHAOS: 1 + found[keys.PAS], keys.SILHOUETTE: 0.5 - found[keys.PAS] / 10}

    monkeypatch.setattr(study_folder, "_scores", scores)


def _without_labels(page: Page) -> dict[str, list[str]]:
    """The rows of the tables of scores without labels, by clustering and first cell."""
    return {f"{r[1]} {r[0].split()[0]}": r for r in page.rows if len(r) == 10 and r[8].endswith(" / 4")}


@pytest.mark.usefixtures("scored_without_labels")
def test_without_labels_the_page_shows_what_needs_none(tmp_path: Path) -> None:
    folder = make_study(tmp_path, UNLABELLED, fails=lambda *_: False)
    page = Page(write_report(folder))
    rows = _without_labels(page)
    summary = pd.read_csv(folder / keys.SUMMARY_FILE)
    assert len(rows) == len(summary)
    for row in summary.to_dict("records"):
        name = row["setting"] if row["method"] == "senca" else row["method"]
        scores = ("mean_silhouette", "mean_chaos", "mean_pas", keys.STABILITY)
        expected = [f"{row[n]:.3f}" if pd.notna(row[n]) else "–" for n in scores]
        assert rows[f"{row['clustering']} {name}"][2:7] == ["4", *expected]
    steady = summary.query("clustering == 'consensus'").set_index(["method", "setting"])[keys.STABILITY]
    controls = steady.drop("senca", level="method")
    told = re.search(r"Most stable control \(([a-z-]+)\): stability (0\.\d+)", page.text)
    assert told and (told[1], told[2]) == (controls.idxmax()[0], f"{controls.max():.3f}")
    assert (
        f"The default (neighbors=4): stability {steady['senca', 'neighbors=4']:.3f} over 3 seeds" in page.text
    )
    box = page.text[page.text.index("At a glance") : page.text.index("Scores without labels")]
    assert "no labels, so no ARI; over seeds a stability of" in box and f"of the control {told[1]}" in box
    assert LABEL_FREE_NOTE in page.text and "There is no ARI: these sections have no labels." in page.text
    assert "nan" not in page.text.lower().split()


@pytest.mark.usefixtures("scored_without_labels")
def test_without_labels_nothing_is_said_of_them(tmp_path: Path) -> None:
    folder = make_study(tmp_path, UNLABELLED[:1], fails=lambda *_: False)
    write_toy_portraits(folder)
    page = Page(write_report(folder))
    assert "No section has labels: the page shows scores that need none" in page.text
    for words in ("Agreement with the labels", "mean ARI ", "Holm", "F1"):
        assert words not in page.text.replace("mean ARI of the seeds'", ""), words
    found = next(r for r in page.rows if r[0] == "U1" or r[0] == "A1")
    first = pd.read_parquet(folder / keys.RESULTS_FILE).query(
        "method == 'senca' and setting == 'neighbors=4' and clustering == 'ward'"
    )
    assert found[2].startswith(f"regions 4 silhouette {first[keys.SILHOUETTE].mean():.3f} CHAOS 1.")
    assert any(i["alt"].startswith("silhouette of 3 seeds in section A1") for i in page.all("img"))


@pytest.mark.usefixtures("scored_without_labels")
def test_a_block_with_labels_keeps_its_scores_beside_one_without(tmp_path: Path) -> None:
    page = Page(write_report(make_study(tmp_path, (*COHORT[:1], UNLABELLED[1]), fails=lambda *_: False)))
    assert "Agreement with the labels is measured as ARI" in page.text
    assert "Statistics: annotated, with image" in page.text
    assert "Scores without labels: without labels, with image" in page.text
    assert "such a colour means nothing in another section" in page.text


def test_an_older_summary_has_no_scores_without_labels(tmp_path: Path) -> None:
    folder = make_study(tmp_path, UNLABELLED[:1])
    summary = pd.read_csv(folder / keys.SUMMARY_FILE)
    new = ["median_k", "mean_silhouette", "mean_chaos", "mean_pas"]
    summary.drop(columns=new).to_csv(folder / keys.SUMMARY_FILE, index=False)
    page = Page(write_report(folder))
    assert "There is no ARI in this block" in page.text
    assert any(r[:4] == ["neighbors=8", "ward", "–", "–"] for r in page.rows)


@pytest.mark.usefixtures("scored_without_labels")
def test_a_benchmark_without_labels_has_scores_too(tmp_path: Path) -> None:
    page = Page(write_report(make_benchmark(tmp_path, UNLABELLED[:2])))
    assert "There is no ARI in this block: its sections have no labels." in page.text
    assert LABEL_FREE_NOTE in page.text
    assert any(r[:3] == ["const", "leiden", "4"] and r[4].startswith("1.") for r in page.rows)


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
    """36 sections of 600 spots have to stay far below 25 MB: here below 14, the plotting library included."""
    sections = tuple(Section(f"S{i}", f"P{i}") for i in range(3))
    folder = make_study(tmp_path, sections, seeds=1, side=25)
    without = write_report(folder).stat().st_size
    write_toy_portraits(folder)
    size = write_report(folder).stat().st_size
    once = len(re.search(r'id="explorer-library">(.*?)</script>', Page(folder / keys.REPORT_FILE).source)[1])
    assert without / 3 < 10e6 / 36
    assert once + 36 * (size - once) / 3 < 14e6


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


@pytest.mark.usefixtures("scored_without_labels")
def test_a_choice_without_labels_says_what_it_rests_on(tmp_path: Path) -> None:
    folder = make_search(tmp_path, UNLABELLED, select="none", objectives=(keys.PAS,), suggestions=6)
    page = Page(write_report(folder))
    assert "Chosen by mean PAS over patients (lower is better). It needs no labels" in page.text
    results = pd.read_parquet(folder / keys.RESULTS_FILE).query("clustering != 'consensus'")
    means = results.groupby(["method", "sample"])[keys.PAS].mean().groupby("method").mean()
    best = means.drop("senca").idxmin()
    line = next(r for r in page.rows if r[0] == "all patients")
    assert line[4] == f"{means[best]:.3f} {best}" and float(line[3]) < means[best]
    assert "is better than the chosen setting" not in page.text
    assert not [cell for row in page.rows for cell in row if cell.startswith("test score")]

    selection = json.loads((folder / keys.SELECTION_FILE).read_text())
    (only,) = selection["folds"]
    next(one for one in only["suggestions"] if one["label"] == only["chosen"])["values"] = [0.9]
    (folder / keys.SELECTION_FILE).write_text(json.dumps(selection))
    said = f"By PAS the control {best} is better than the chosen setting : {means[best]:.3f} against 0.900"
    assert said in Page(write_report(folder)).text


def test_a_choice_by_labels_names_no_control(tuned: Page) -> None:
    assert "Chosen by mean ARI over patients (higher is better)." in tuned.text
    assert "It needs no labels" not in tuned.text and "Best control: on the sections" not in tuned.text


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


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a study with portraits, of which one lacks whatever a portrait may lack."""
    folder = make_study(tmp_path_factory.mktemp("shown"))
    bare = write_toy_portraits(folder)["C1"]
    nothing = {"confidence": None, "umap": None, "tree": None, "curve": {}, "kinds": (), "seed": None}
    bare = dataclasses.replace(bare, n_seeds=1, markers=bare.markers.iloc[:0], **nothing)
    write_portrait(folder, bare, made_from="made up")
    control = KindControl(("expression",), 1800, 12, 9, 21, 0.31, 0.05, 0.09, 0.004)
    write_control(folder, control)
    return Page(write_report(folder))


def test_only_the_page_s_own_scripts_may_run(shown: Page) -> None:
    policy = next(m["content"] for m in shown.all("meta") if "default-src" in m.get("content", ""))
    assert policy.startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    )
    assert policy.count("'unsafe-inline'") == 1 and "eval" not in policy
    own = re.search(r"<script>(.*?)</script>", shown.source, re.DOTALL)
    packed = re.search(r'id="explorer-library">(.*?)</script>', shown.source, re.DOTALL)
    assert own and packed
    for script in (own[1].encode(), gzip.decompress(base64.b64decode(packed[1]))):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" in policy
    kinds = [script.get("type", "runs") for script in shown.all("script")]
    assert kinds.count("runs") == 1 and set(kinds) == {"runs", "application/json", "text/plain"}
    assert not [a for _, attributes in shown.tags for a in attributes if a.startswith("on")]


def test_every_control_has_a_name_and_every_link_an_aim(shown: Page) -> None:
    ids = [a["id"] for _, a in shown.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in shown.all("a")} <= set(ids)
    named = {label.get("for") for label in shown.all("label")}
    for control in shown.all("select") + [i for i in shown.all("input") if "data-part" in i]:
        assert "aria-label" in control or control["id"] in named
    levels = [int(tag[1]) for tag, _ in shown.tags if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(shown.all("caption")) == len(shown.all("table"))


def test_panels_are_hidden_until_their_script_runs(shown: Page) -> None:
    panels = [a for _, a in shown.tags if a.get("class") == "explorer"]
    assert len(panels) == 4 and all("hidden" in panel for panel in panels)
    parts = [a["data-part"] for _, a in shown.tags if "data-part" in a]
    assert (parts.count("umap"), parts.count("tree"), parts.count("cut")) == (3, 3, 3)
    assert (parts.count("opacity"), parts.count("outlined"), parts.count("swipe")) == (3, 4, 4)
    cut = next(a for _, a in shown.tags if a.get("data-part") == "cut")
    assert (cut["min"], cut["max"], cut["value"]) == ("1", "8", "4")


def test_regions_are_told_with_their_confidence_and_markers(shown: Page) -> None:
    rows = [r for r in shown.rows if r[0] == "0" and r[-1] == "GENE00, GENE01, GENE02"]
    assert len(rows) == 3 and all(re.fullmatch(r"\d\d %", r[4]) for r in rows)
    assert ["0", "63", "32 %"] in shown.rows
    assert shown.text.count("Region 3 is small : 7 spots, 3.6 % of the section.") == 4
    assert shown.text.count("Its strongest genes: GENE30, GENE31, GENE32") == 3


def test_the_number_of_regions_is_explained(shown: Page) -> None:
    why = "As many regions as labels (4): an oracle, with new tissue nobody knows it."
    assert shown.text.count(why) == 4
    assert shown.text.count(f"{why} The curve of seed 1 is highest at 4.") == 3
    assert "Those of a single seed: nothing is known of how far chance moves them." in shown.text
    curves = [i["alt"] for i in shown.all("img") if i["alt"].startswith("Mean silhouette")]
    assert len(curves) == 3 and "0.500 at 4" in curves[0] and curves[0].endswith("; 4 marked.")


def test_every_seed_of_the_variant_shown_is_told(shown: Page) -> None:
    assert len([i for i in shown.all("img") if i["alt"].startswith("ARI of 3 seeds in section")]) == 4
    assert len(re.findall(r"3 seeds: ARI 0\.\d{3} to 0\.\d{3}", shown.text)) == 4


def test_kinds_of_the_cohort_and_what_they_rest_on(shown: Page) -> None:
    assert "4 kinds in 3 sections of 2 patients" in shown.text
    assert any(r[0] == "0" and r[1:4] == ["2 of 2", "A, B", "3"] for r in shown.rows)
    assert ["3", "3.6 %", "3.6 %", "3.6 %"] in shown.rows
    assert "9 of 12 regions are of a kind that recurs" in shown.text
    assert (
        "a likeness of 0.31" in shown.text and "p = 0.004. So these kinds recur beyond chance." in shown.text
    )


@pytest.mark.parametrize(
    ("alike", "p", "words"),
    [(0.05, 0.4, "do not build on these kinds"), (None, None, "No regions of one kind could be compared")],
)
def test_kinds_that_chance_could_make_are_called_so(alike: float | None, p: float | None, words: str) -> None:
    control = KindControl(("expression", "image"), 1800, 12, 9, 21, alike, 0.05, 0.09, p)
    said = rests_on(control)
    assert "by the expression of 1800 genes and what the image shows" in said
    assert words in said and "beyond chance" not in said


def test_too_few_pairs_are_not_told_apart_from_chance_nor_called_chance() -> None:
    one = KindControl(("expression",), 1800, 4, 2, 1, 0.6, 0.02, 0.3, 0.07, least_p=0.07)
    said = rests_on(one)
    assert "1 pair of regions is too few to tell: p could not be below 0.07" in said
    assert "chance could match" not in said and "beyond chance" not in said
    enough = rests_on(dataclasses.replace(one, pairs=30, p=0.4, least_p=0.001))
    assert "too few" not in enough and "do not build on these kinds" in enough


def test_headline_numbers_stand_first(finished: Path, page: Page) -> None:
    summary = pd.read_csv(finished / keys.SUMMARY_FILE)
    mean = summary.query("block == 'annotated, with image' and is_default and clustering == 'ward'")[
        "mean_ari"
    ]
    box = page.text[page.text.index("At a glance") : page.text.index("Statistics: annotated")]
    assert f"mean ARI {mean.iloc[0]:.3f} with the default (neighbors=4)" in box
    assert "4 sections of 3 patients, 3 seeds a fit; 3 of 75 fits failed" in box
    assert "As many as each section has labels: an oracle" in box
    assert "a tuning score, no test" in box


def test_every_comparison_is_told_in_words(finished: Path, benchmark: Path, page: Page) -> None:
    for folder, shown in ((finished, page), (benchmark, Page(write_report(benchmark)))):
        summary = pd.read_csv(folder / keys.SUMMARY_FILE, keep_default_na=False, na_values=[""])
        compared = summary[~summary["is_default"] & (summary["n_paired"] > 0)]
        assert len(
            re.findall(r"better than [^;]*? on \d+ of \d+ patients?; mean difference", shown.text)
        ) == len(compared)


def test_a_study_that_has_not_finished_says_so_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_study(tmp_path)
    monkeypatch.setattr(study_view, "partial", lambda *_: "31 of 48 trials")
    text = Page(write_report(folder)).text
    assert text.index("This page rests on 31 of 48 trials") < text.index("At a glance")


def test_several_annotators_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_study(tmp_path, COHORT[:1])
    write_toy_portraits(folder)
    read = study_view.read_display

    def annotated(uri: str) -> study_view.Display:
        display = read(uri)
        assert display.labels is not None
        return dataclasses.replace(display, annotations={"<b>smith": display.labels[::-1].copy()})

    monkeypatch.setattr(study_view, "read_display", annotated)
    page = Page(write_report(folder))
    assert any(r[0] == "main and <b>smith" for r in page.rows)
    assert [r[0] for r in page.rows if len(r) == 4 and r[3].startswith("0.")][:2] == ["main", "<b>smith"]
    assert "The annotators agree with each other to an ARI of" in page.text and not page.all("b")


def test_searches_and_benchmarks_have_panels_too(tmp_path: Path) -> None:
    made = (
        make_search(tmp_path / "search", PATIENTS[:2], suggestions=6),
        make_benchmark(tmp_path / "benchmark", COHORT[2:]),
    )
    for folder in made:
        write_toy_portraits(folder)
        page = Page(write_report(folder))
        assert len([a for _, a in page.tags if a.get("class") == "explorer"]) == 2


def test_the_form_of_large_sections_and_the_encoders_used_are_named(finished: Path, tmp_path: Path) -> None:
    study = shutil.copytree(finished, tmp_path / "study")
    results = pd.read_parquet(study / keys.RESULTS_FILE)
    results[keys.FORM] = keys.LARGE
    results.loc[results[keys.MODALITY] == keys.RNA_IMAGE, keys.ENCODER] = "another (file)"
    results.to_parquet(study / keys.RESULTS_FILE)
    page = write_report(study).read_text(encoding="utf-8")
    assert "fitted in the form for large sections" in page
    assert "features from another (file)" in page
