"""The page as a reader has it: in a headless Chromium, where there is one."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import study_folder
from portrait_toys import LEAVES, write_toy_portraits
from study_folder import Section, make_study

from senca_ray import keys
from senca_ray.analysis.portrait import write_portrait
from senca_ray.report.html import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on this machine")

EVIL = "</script><script>window.harmed=1</script><img src=x onerror=window.harmed=1>"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of three sections in which everything that files may say is a script."""
    folder = tmp_path_factory.mktemp("browser")
    cohort = (
        Section("<script>window.harmed=1<", EVIL, notes=(EVIL,)),
        Section("B1", "B", image=False, notes=(EVIL,)),
        Section("C1", "C", label_source=keys.UNLABELLED),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_folder, "LABELS", (EVIL, *study_folder.LABELS[1:]))
        made = make_study(folder, cohort)
    for portrait in write_toy_portraits(made).values():
        markers = portrait.markers.assign(gene=EVIL)
        write_portrait(made, dataclasses.replace(portrait, markers=markers), made_from="made up")
    return write_report(made)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, path: Path) -> Iterator[Any]:
    """The page in a window of its own, opened; whatever it complains of or asks for fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    opened.on("request", lambda request: complaints.append(request.url[:99]))
    opened.goto(path.as_uri())
    yield opened
    assert not [one for one in complaints if one != path.as_uri()[:99] and not one.startswith("data:")], (
        complaints
    )
    assert opened.evaluate("window.harmed") is None
    context.close()


def _drawn(page: Any, number: int = 1) -> Any:
    """A section's panel with its plots."""
    panel = page.locator(f"#explorer-{number}")
    panel.scroll_into_view_if_needed()
    for plot in ("umap", "tree"):
        panel.locator(f"[data-part={plot}] .main-svg").first.wait_for()
    return panel


def _colours(panel: Any, side: str) -> set[str]:
    return set(
        panel.locator(f"svg.{side} path[data-code]").evaluate_all(
            "all => all.map(p => p.getAttribute('stroke'))"
        )
    )


def _umap(panel: Any) -> set[str]:
    """Colours of the UMAP's dots, as '#RRGGBB'."""
    dots = panel.locator("[data-part=umap] path.point").evaluate_all("all => all.map(p => p.style.fill)")
    parts = (re.findall(r"\d+", dot) for dot in dots)
    return {"#" + "".join(f"{int(part):02X}" for part in rgb[:3]) for rgb in parts}


def test_every_section_is_drawn_without_harm(page: Any) -> None:
    for number in (1, 2, 3):
        panel = _drawn(page, number)
        assert len(_colours(panel, "right")) == 4
        assert panel.locator("[data-part=umap] path.point").count() == 14 * 14
    first = page.locator("#explorer-1")
    assert EVIL in first.locator("[data-part=legend-left]").inner_text()
    # Sorted, this label is the first.
    codes = "JSON.parse(document.querySelector('#explorer-1 script').textContent).layers.labels.codes"
    spot = first.locator("[data-part=umap] path.point").nth(page.evaluate(f"{codes}.indexOf(0)"))
    spot.scroll_into_view_if_needed()
    spot.hover(force=True)
    first.locator(".umap .hoverlayer text").first.wait_for()
    assert EVIL in (first.locator(".umap .hoverlayer").text_content() or "")
    told = first.locator("[data-part=told]").inner_text()
    named = "JSON.parse(document.querySelector('#explorer-1 script').textContent).spots"
    assert EVIL in told and told.startswith(f"spot {page.evaluate(f'{named}[{codes}.indexOf(0)]')}")


def test_nothing_is_unpacked_before_it_is_seen(page: Any) -> None:
    assert page.evaluate("window.Plotly") is None and page.locator("#explorer-library").count() == 1
    assert page.locator(".main-svg").count() == 0
    _drawn(page)
    assert page.locator("#explorer-library").count() == 0
    assert page.locator("#explorer-3 .main-svg").count() == 0


def test_layers_divider_opacity_and_outlines(page: Any) -> None:
    panel = _drawn(page)
    labels = _colours(panel, "left")
    panel.get_by_label("Left", exact=True).select_option("confidence")
    assert len(_colours(panel, "left")) == 2 and _colours(panel, "left") != labels
    assert "3 of 3 seeds" in panel.locator("[data-part=legend-left]").inner_text()
    panel.get_by_label("Left", exact=True).select_option("image")
    assert _colours(panel, "left") == set()

    panel.locator("[data-part=swipe]").fill("80")
    clips = [
        panel.locator(f"svg.{side}").evaluate("e => getComputedStyle(e).clipPath")
        for side in ("left", "right")
    ]
    assert clips == ["inset(0px 20% 0px 0px)", "inset(0px 0px 0px 80%)"]
    panel.get_by_label("Opacity of the spots").fill("30")
    assert panel.locator("svg.right").evaluate("e => getComputedStyle(e).opacity") == "0.3"

    assert panel.locator("svg.outlines").get_attribute("visibility") == "hidden"
    panel.get_by_label("Outlines of the regions").check()
    assert panel.locator("svg.outlines").get_attribute("visibility") == "visible"
    assert panel.locator("svg.outlines path:not(.casing)").count() == 4


def test_the_cut_is_moved_by_keys_and_colours_everything(page: Any) -> None:
    panel = _drawn(page)
    cut = panel.get_by_label("Cut into")
    assert cut.input_value() == "4"
    cut.focus()
    page.keyboard.press("ArrowLeft")
    assert panel.get_by_label("Right", exact=True).input_value() == "cut"
    assert cut.get_attribute("aria-valuetext") == "3 regions"
    three = _colours(panel, "right")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    five = _colours(panel, "right")
    assert (len(three), len(five)) == (3, 5) and three < five
    dots = "[...document.querySelectorAll('#explorer-1 .umap path.point')]"
    page.wait_for_function(f"new Set({dots}.map(dot => dot.style.fill)).size == 5")
    assert _umap(panel) == {colour.upper() for colour in five}
    assert panel.locator("[data-part=tree] path.point").count() == 5
    assert panel.locator("[data-part=cut-words]").inner_text().startswith("5 regions: ")
    page.keyboard.press("Home")
    assert len(_colours(panel, "right")) == 1 and panel.locator("[data-part=tree] path.point").count() == 1
    page.keyboard.press("End")
    assert panel.locator("[data-part=tree] path.point").count() == LEAVES


def test_a_phone_scrolls_down_only(page: Any) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    _drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    box = page.locator("#explorer-1 .stage").bounding_box()
    assert box is not None and box["width"] > 300


def test_paper_has_the_maps_and_no_panel(page: Any) -> None:
    panel = _drawn(page)
    page.emulate_media(media="print")
    assert not panel.is_visible()
    maps = page.locator("#section-1 .maps img")
    assert maps.count() == 9 and all(one.is_visible() for one in maps.all())
    assert page.locator("#section-1 table caption", has_text="Regions of section").is_visible()


def test_without_scripts_the_page_is_whole(browser: Any, path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert not page.locator("#explorer-1").is_visible()
    assert page.locator("#section-1 .maps img").first.is_visible()
    context.close()
