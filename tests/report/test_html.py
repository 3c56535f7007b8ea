from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from study_folder import COHORT, Section, make_study

from senca_ray import keys
from senca_ray.report.html import write_report


class Page(HTMLParser):
    """What tests look at in a page: its tags, its text, and its table rows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self._pieces: list[str] = []
        self._in_cell = False
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join("".join(self._pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "style":
            return
        self._pieces.append(data + " ")
        if self._in_cell:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


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
    assert sum("control" in r[0] and r[1] in ("ward", "kmeans") for r in page.rows) == 11
    assert "nan" not in page.text.lower().split()


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
        assert len(alts) == {"A1": 8, "A2": 8, "B1": 7, "C1": 7}[sample]
        assert any(re.search(r"neighbors=4: ARI 0\.\d{3}, 4 regions, seed \d", alt) for alt in alts)


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
    assert ["C1", "senca", "neighbors=16", "0, 1, 2", "RuntimeError: loss is not finite"] in page.rows
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
