from __future__ import annotations

import dataclasses
import json
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from figure_checks import check_no_text_overlaps
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from portrait_toys import write_toy_portraits
from report import study_folder
from report.study_folder import LABELS, NOT_INSTALLED, Section, make_ablation, make_study
from scipy.sparse import csr_matrix
from typer.testing import CliRunner, Result

from senca_ray import keys
from senca_ray.analysis.portrait import read_portrait, write_portrait
from senca_ray.cli_figures import figures
from senca_ray.data.shards import read_display, write_shard
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.report import paper_figures
from senca_ray.report.figure_panels import (
    SMALL,
    TALLEST,
    WIDTHS,
    Entry,
    Panel,
    Sheet,
    draw_sheet,
    save_figure,
    text_width,
    wrapped,
)
from senca_ray.report.maps import PALETTE, section_maps
from senca_ray.report.paper_figures import write_figures
from senca_ray.report.paper_sheets import SHEETS, cohort_sheet
from senca_ray.report.view import StudyView, load_study

app = typer.Typer(rich_markup_mode=None)
app.command()(figures)

GENES = ("GENE00", "GENE10", "GENE20", "GENE30")
"""The strongest marker of each region of a toy portrait."""
BARE = Section("U1", "U", image=False, label_source=keys.UNLABELLED)
COHORT = (Section("A1", "A"), Section("B1", "B", image=False), BARE)
EVERY = ("figure2", "figure3", "figure4", "figure5")


def with_genes(study: Path, cohort: tuple[Section, ...] = COHORT) -> Path:
    """The study with shards that hold the genes of the toy portraits, and with these portraits."""
    path = study / keys.STUDY_FILE
    description = json.loads(path.read_text())
    rng = np.random.default_rng(0)
    for section in cohort:
        display = read_display(description["shards"][section.sample])
        labels = np.full(len(display.xy), LABELS[0]) if display.labels is None else display.labels
        content = dataclasses.replace(
            study_folder._shard(section, display.xy, labels, rng),
            genes=GENES,
            counts=csr_matrix(rng.poisson(3, (len(labels), len(GENES))).astype(np.int32)),
            dispersion=np.zeros(len(GENES)),
        )
        description["shards"][section.sample] = str(write_shard(study.parent / "with-genes", content))
    path.write_text(json.dumps(description))
    write_toy_portraits(study)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over a section with all, one without image and one without labels; to be read only."""
    folder = tmp_path_factory.mktemp("figures")
    fails = {("B1", "neighbors=16")}
    return with_genes(make_study(folder, COHORT, side=8, fails=lambda *trial: trial in fails, simulated=True))


@pytest.fixture
def changed(study: Path, tmp_path: Path) -> Path:
    """The same to be changed."""
    return Path(shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("figures")))


@pytest.fixture(scope="module")
def written(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The figures of the section that has all."""
    out = tmp_path_factory.mktemp("out") / "made"
    write_figures(study, out, ["A1"])
    return out


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of two pages, without content: drawing takes its time."""

    def save(figure: Figure, path: Path) -> list[Path]:
        made = [path.with_name(f"{path.name}.{kind}") for kind in ("pdf", "png")]
        for file in made:
            file.touch()
        return made

    monkeypatch.setattr(paper_figures, "draw_sheet", lambda sheet, width: [Figure(), Figure()])
    monkeypatch.setattr(paper_figures, "save_figure", save)


@pytest.fixture(scope="module")
def view(study: Path) -> StudyView:
    """The study, loaded."""
    return load_study(study)


def sheet_of(seen: StudyView | Path, name: str, sample: str = "A1") -> tuple[Sheet | None, list[str]]:
    view, told = seen if isinstance(seen, StudyView) else load_study(seen), list[str]()
    return SHEETS[name](view, sample, section_maps(view, sample), told.append), told


def made(seen: StudyView | Path, name: str, sample: str = "A1") -> Sheet:
    sheet, _ = sheet_of(seen, name, sample)
    assert sheet is not None
    return sheet


def change(study: Path, sample: str, **fields: object) -> None:
    portrait = read_portrait(study, sample)
    assert portrait is not None
    write_portrait(study, dataclasses.replace(portrait, **fields), "changed")


def reasons(problems: tuple[Problem, ...]) -> set[tuple[str, str, str]]:
    return {(p.sample, p.place, p.message) for p in problems}


def page_size(pdf: Path) -> tuple[float, float]:
    """Width and height in millimetres."""
    [box] = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf.read_bytes())
    return float(box[0]) / 72 * 25.4, float(box[1]) / 72 * 25.4


def drawing(pdf: Path) -> bytes:
    """What a PDF's streams hold, as far as they are compressed."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf.read_bytes(), re.DOTALL)
    return b"\n".join(zlib.decompress(s) for s in streams if s[:1] == b"\x78")


def test_figures_have_the_width_of_the_journal(written: Path) -> None:
    assert {p.name for p in written.iterdir()} == {f"{n}_A1.{kind}" for n in EVERY for kind in ("pdf", "png")}
    for name in EVERY:
        across, tall = page_size(written / f"{name}_A1.pdf")
        assert across == pytest.approx(174, abs=0.1) and tall <= 230
        with Image.open(written / f"{name}_A1.png") as image:
            pixels = np.array([across, tall]) / 25.4 * 300
            assert np.abs(pixels - image.size).max() <= 1
            assert image.info["dpi"][0] == pytest.approx(300, abs=0.1)


def test_the_pdf_has_embedded_fonts_text_as_text_and_spots_as_shapes(written: Path) -> None:
    for name in EVERY:
        pdf = (written / f"{name}_A1.pdf").read_bytes()
        assert b"/FontFile2" in pdf and b"/Type3" not in pdf
        assert b"BT" in drawing(written / f"{name}_A1.pdf")
        # The H&E image, and the colour bars of four genes.
        assert pdf.count(b"/Subtype /Image") == {"figure2": 1, "figure3": 4}.get(name, 0)


@pytest.mark.usefixtures("unsaved")
def test_every_section_and_the_cohort_have_their_figures(study: Path, tmp_path: Path) -> None:
    result = write_figures(study, tmp_path)
    names = [f"{name}_{section.sample}" for section in COHORT for name in EVERY]
    pages = [page for name in [*names, "figure_cohort"] for page in (name, f"{name}-2")]
    assert list(dict.fromkeys(path.stem for path in result.written)) == pages
    assert {*tmp_path.iterdir()} == {*result.written}
    one = write_figures(study, tmp_path, ["B1", "B1"])
    assert [path.stem for path in one.written[::4]] == [f"{name}_B1" for name in EVERY]


def test_the_same_study_gives_the_same_bytes(view: StudyView, tmp_path: Path) -> None:
    first, second = (
        save_figure(draw_sheet(made(view, "figure5", "U1"), "single")[0], tmp_path / name) for name in "ab"
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert page_size(first[0])[0] == pytest.approx(85, abs=0.1)


def shown_seed(view: StudyView, setting: str = "neighbors=4") -> int:
    """The seed of A1 that agrees best with the others."""
    rows = view.results
    mine = (rows[keys.SAMPLE] == "A1") & (rows[keys.SETTING] == setting) & (rows[keys.METHOD] == "senca")
    [seed] = rows.loc[mine & rows[keys.TYPICAL].eq(True), keys.SEED]
    return int(seed)


def test_figure_2_shows_tissue_labels_settings_and_controls(view: StudyView) -> None:
    sheet = made(view, "figure2")
    titles = [panel.title for panel in sheet.panels]
    assert titles[:4] == [
        *("H&E", "pathologist's labels", f"neighbors=4, seed\u00a0{shown_seed(view)}"),
        "consensus of 3 seeds, neighbors=4",
    ]
    assert {"neighbors=8", "neighbors=16", "smoothed-image", "smoothed-pca"} < {
        title.partition(",")[0] for title in titles
    }
    assert "smoothed-image" in titles, "of which every seed gives the same"
    assert all(re.match(r"ARI −?\d\.\d{3}, 4 regions$", panel.below) for panel in sheet.panels[2:])
    assert {*LABELS} <= {entry.text for entry in sheet.legend}
    assert "SIMULATED" in sheet.foot and "64 spots" in sheet.foot and "oracle" in sheet.foot


def test_figure_2_says_what_failed_and_knows_no_ari_without_labels(view: StudyView) -> None:
    failed = next(p for p in made(view, "figure2", "B1").panels if p.title == "neighbors=16")
    assert failed.below == "no regions: RuntimeError: loss is not finite"
    assert not any("ARI" in panel.below for panel in made(view, "figure2", "U1").panels)


def test_figure_2_of_a_benchmark_shows_the_featured_methods(benchmark: Path) -> None:
    sheet, _ = sheet_of(benchmark, "figure2")
    assert sheet is not None
    titles = [panel.title for panel in sheet.panels]
    assert [title.partition(", seed")[0] for title in titles[2:4]] == [
        *("senca (ward)", "consensus of 2 seeds, senca")
    ]
    assert not any(NOT_INSTALLED in title for title in titles)
    assert "of slow methods 1" in sheet.foot


def test_figure_3_maps_the_strongest_marker_of_each_region(view: StudyView) -> None:
    sheet = made(view, "figure3")
    assert [panel.title for panel in sheet.panels] == ["regions", *GENES]
    assert [panel.below for panel in sheet.panels[1:]] == [f"region {r}, effect 0.900" for r in range(4)]
    assert "found on the same counts" in sheet.foot
    [figure] = draw_sheet(sheet, "double")
    # The regions have no scale of their own; every gene has one.
    assert len(drawn(figure)) == 5 and len(figure.axes) == 1 + 5 + 4


def test_figure_3_maps_six_regions_at_most_and_a_shared_marker_once(changed: Path) -> None:
    portrait = read_portrait(changed, "A1")
    assert portrait is not None
    row = portrait.markers.iloc[0]
    rows = [row.to_dict() | {"region": r, "effect": 0.1 * r, "gene": GENES[min(r, 3)]} for r in range(1, 8)]
    change(changed, "A1", regions=np.arange(64) % 8, markers=portrait.markers.iloc[:0]._append(rows))
    sheet = made(changed, "figure3")
    assert [panel.title for panel in sheet.panels] == ["regions", GENES[2], GENES[3]]
    assert [part.split(",")[0] for part in sheet.panels[2].below.split("; ")] == [
        f"region {r}" for r in range(3, 8)
    ]
    assert "6 of 7 regions" in sheet.foot and "Without such a gene: region 0." in sheet.foot


def test_figure_4_shows_the_variants_with_their_mean_over_seeds(tmp_path: Path) -> None:
    study = make_ablation(tmp_path, (COHORT[0],))
    view = load_study(study)
    sheet = made(view, "figure4")
    seeds = {name: shown_seed(view, name) for name in view.description["variants"]}
    titles = [panel.title for panel in sheet.panels]
    assert titles[:2] == ["pathologist's labels", f"full (default), seed\u00a0{seeds.pop('full')}"]
    assert {*titles[2:]} == {f"{name}, seed\u00a0{seed}" for name, seed in seeds.items()}
    rows = view.results[(view.results[keys.SETTING] == "without image") & (view.results[keys.SEED] >= 0)]
    mean, sd = (getattr(rows[keys.ARI], name)() for name in ("mean", "std"))
    [shown] = [panel.below for panel in sheet.panels if panel.title.startswith("without image")]
    assert shown == f"ARI {mean:.3f} ± {sd:.3f}, 3 seeds"


def drawn(figure: Figure) -> list[EllipseCollection]:
    return list(figure.findobj(EllipseCollection))


def faces(spots: EllipseCollection | PathCollection) -> list[str]:
    return [to_hex(colour).upper() for colour in spots.get_facecolors()]


def test_a_label_and_the_region_that_overlaps_it_share_a_colour(changed: Path) -> None:
    display = load_study(changed).displays["A1"]
    assert display.labels is not None
    names, codes = np.unique(display.labels, return_inverse=True)
    known = display.labels != keys.UNDETERMINED
    # Regions that are the labels under other numbers; undetermined spots join region 0.
    regions = np.where(known, (len(names) - codes) % len(names), 0)
    regions = np.unique(regions, return_inverse=True)[1].astype(np.int16)
    change(changed, "A1", regions=regions)
    [figure] = draw_sheet(made(changed, "figure5"), "double")
    by_label, by_region = (np.array(faces(dots)) for dots in figure.findobj(PathCollection))
    order = np.random.default_rng(0).permutation(64)
    assert (by_label == by_region)[known[order]].all()
    assert len({*by_label[known[order]]}) == len({*LABELS} & {*display.labels})
    [regions_map, *_] = drawn(draw_sheet(made(changed, "figure3"), "double")[0])
    assert np.array_equal(np.array(faces(regions_map))[order], by_region), "as in Figure 5"
    assert {*by_region} <= {*PALETTE}


def test_figure_5_without_labels_shows_confidence(view: StudyView, changed: Path) -> None:
    sheet, told = sheet_of(view, "figure5", "U1")
    assert sheet is not None and [panel.title for panel in sheet.panels] == ["by region", "by confidence"]
    assert told == ["made by confidence in place of labels: the section has none"]
    change(changed, "U1", confidence=None, n_seeds=1)
    sheet, told = sheet_of(changed, "figure5", "U1")
    assert sheet is not None and [panel.title for panel in sheet.panels] == ["by region"]
    assert "one seed" in told[0] and "Regions: seed 1 of senca" in sheet.foot


def test_spots_left_out_have_no_place_in_the_umap(changed: Path) -> None:
    portrait = read_portrait(changed, "A1")
    assert portrait is not None and portrait.umap is not None
    out = np.arange(64) < 5
    umap = np.where(out[:, None], np.nan, portrait.umap)
    change(changed, "A1", umap=umap, regions=np.where(out, keys.NO_REGION, portrait.regions))
    sheet = made(changed, "figure5")
    [figure] = draw_sheet(sheet, "double")
    assert [len(dots.get_offsets()) for dots in figure.findobj(PathCollection)] == [59, 59]
    assert "left out of clustering" in {entry.text for entry in sheet.legend}


def test_the_cohort_shows_regions_of_one_kind_in_one_colour(changed: Path) -> None:
    change(changed, "B1", kinds=(1, 0, 3, 3))
    change(changed, "U1", kinds=())
    view, told = load_study(changed), list[str]()
    sheet = cohort_sheet(view, told.append)
    assert sheet is not None and told == ["made without U1: its regions were not matched"]
    assert [panel.title for panel in sheet.panels] == ["A1, patient A", "B1, patient B"]
    assert [entry.text for entry in sheet.legend] == [
        *("kind 0: 2 sections of 2 patients", "kind 1: 2 sections of 2 patients"),
        *("kind 2: 1 section of 1 patient", "kind 3: 2 sections of 2 patients"),
    ]
    [figure] = draw_sheet(sheet, "double")
    for spots, portrait in zip(drawn(figure), view.portraits.values(), strict=False):
        assert faces(spots) == [PALETTE[portrait.kinds[region]] for region in portrait.regions]
    numbers = [text.get_text() for text in figure.findobj(Text) if text.get_text().isdigit()]
    assert numbers == ["0", "1", "2", "3"] * 2


@pytest.mark.parametrize(("sample", "width"), [("A1", "double"), ("U1", "single")])
@pytest.mark.parametrize("name", EVERY)
def test_words_fit_and_are_readable(view: StudyView, name: str, sample: str, width: str) -> None:
    for figure in draw_sheet(made(view, name, sample), width):
        # Rendered letters vary by a pixel: at the resolution of print this is nothing.
        figure.set_dpi(300)
        check_no_text_overlaps(figure, at_least=4)
        texts = [t for t in figure.findobj(Text) if t.get_text().strip()]
        assert min(text.get_fontsize() for text in texts) >= SMALL


def nothing(axes: Axes) -> None:
    axes.set_axis_off()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("n", "aspect"), [(1, 2.5), (5, 0.4), (11, 1.6), (17, 1.2)])
def test_pages_are_never_too_tall_and_hold_every_panel_once(n: int, aspect: float, width: str) -> None:
    panels = tuple(Panel(f"$panel_{i}$", nothing, aspect, "some words below it") for i in range(n))
    legend = tuple(Entry(f"label {i} " + "of a long name " * (i % 7), ("#000000",)) for i in range(12))
    pages = draw_sheet(Sheet(panels, legend, "small print " * 20), width)
    found = []
    for page in pages:
        across, tall = page.get_size_inches() * 25.4
        assert across == pytest.approx(WIDTHS[width]) and tall <= TALLEST
        page.set_dpi(300)
        check_no_text_overlaps(page, at_least=3)
        found += [t.get_text() for t in page.findobj(Text) if t.get_text().startswith("$panel")]
        sizes = {tuple(np.round(axes.get_position().size * (across, tall), 3)) for axes in page.axes[1:]}
        assert len(sizes) == 1, "all panels are of one size"
    assert found == [panel.title for panel in panels]


def test_rows_are_of_equal_length() -> None:
    panels = tuple(Panel(str(i), nothing, 0.5) for i in range(5))
    [page] = draw_sheet(Sheet(panels, (), "small print"), "double")
    tops = [round(axes.get_position().y1, 6) for axes in page.axes[1:]]
    assert [tops.count(top) for top in dict.fromkeys(tops)] == [3, 2]


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"])), st.floats(5, 80))
def test_wrapped_lines_fit_and_lose_nothing(text: str, across: float) -> None:
    lines = wrapped(text, SMALL, across)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(text_width(line, SMALL) <= across for line in lines)


@pytest.mark.usefixtures("unsaved")
def test_what_is_left_out_is_told_with_the_reason(changed: Path, tmp_path: Path) -> None:
    (changed / keys.PORTRAIT_FOLDER / "B1.parquet").unlink()
    portrait = read_portrait(changed, "A1")
    assert portrait is not None
    change(changed, "A1", umap=None, markers=portrait.markers.iloc[:0], kinds=())
    change(changed, "U1", kinds=())
    told = reasons(write_figures(changed, tmp_path / "out").left_out)
    report = f"nothing is kept of the regions to go on with; `senca report {changed}` makes it"
    no_truth = "made without ground truth and ARI: the section has no labels"
    assert told == {
        ("A1", "figure3", "no gene is known to be significantly higher in one region than in the others"),
        ("A1", "figure5", "no embedding of senca neighbors=4 was kept, so there is no UMAP"),
        ("B1", "figure2", "made without H&E: the section has no image"),
        *(("B1", name, report) for name in ("figure3", "figure5")),
        ("U1", "figure2", "made without H&E: the section has no image"),
        *(("U1", name, no_truth) for name in ("figure2", "figure4")),
        ("U1", "figure5", "made by confidence in place of labels: the section has none"),
        ("-", "figure_cohort", "the regions of the sections were not matched with each other"),
    }
    names = {path.stem for path in (tmp_path / "out").iterdir()}
    assert names.isdisjoint({"figure3_A1", "figure5_A1", "figure3_B1", "figure5_B1", "figure_cohort"})


def test_a_benchmark_has_no_ablation(benchmark: Path) -> None:
    sheet, [reason] = sheet_of(benchmark, "figure4")
    assert sheet is None and "compares no variants" in reason


def test_genes_that_the_shard_lacks_have_no_map(changed: Path) -> None:
    portrait = read_portrait(changed, "A1")
    assert portrait is not None
    markers = portrait.markers.replace({"gene": {"GENE20": "ABSENT"}})
    change(changed, "A1", markers=markers)
    sheet, told = sheet_of(changed, "figure3")
    assert sheet is not None and len(sheet.panels) == 4
    assert told == ["made without maps of ABSENT: not among the section's genes"]
    change(changed, "A1", markers=markers[markers["gene"] == "ABSENT"])
    sheet, told = sheet_of(changed, "figure3")
    assert sheet is None and told == ["no map of ABSENT: not among the section's genes"]


@pytest.mark.usefixtures("unsaved")
def test_a_section_whose_shard_is_gone_does_not_stop_the_others(changed: Path, tmp_path: Path) -> None:
    path = changed / keys.STUDY_FILE
    description = json.loads(path.read_text())
    description["shards"]["B1"] = str(tmp_path / "gone")
    path.write_text(json.dumps(description))
    result = write_figures(changed, tmp_path / "out", ["B1", "U1"])
    [gone] = [p for p in result.left_out if p.sample == "B1"]
    assert gone.place == "all figures" and "not a shard" in gone.message
    assert {path.stem for path in result.written} == {
        f"{name}_U1{page}" for name in EVERY for page in ("", "-2")
    }
    with pytest.raises(ProblemsError, match="no figure can be made") as error:
        write_figures(changed, tmp_path / "none", ["B1"])
    assert error.value.problems == (gone,) and not (tmp_path / "none").exists()


def test_all_that_is_wrong_with_the_request_is_told_at_once(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as error:
        write_figures(study, tmp_path / "out", ["X1", "A1", "X2"], "triple")
    assert [p.place for p in error.value.problems] == ["--width", "--section", "--section"]
    assert "'X2' found; the sections of the study are A1, B1, U1" in str(error.value)
    with pytest.raises(ProblemsError, match="senca resume") as error:
        write_figures(tmp_path, width="triple")
    assert [p.place for p in error.value.problems][-2:] == [keys.SUMMARY_FILE, "--width"]
    assert not list(tmp_path.iterdir())


def failing(after: int) -> Callable[[Figure, Path], list[Path]]:
    """Saves figures until the disk is full."""
    saved = []

    def save(figure: Figure, path: Path) -> list[Path]:
        if len(saved) == after:
            raise OSError(28, "No space left on device")
        saved.append(path)
        path.write_text("new")
        return [path]

    return save


def test_all_figures_are_written_or_none(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "figure2_A1"
    old.write_text("old")
    monkeypatch.setattr(paper_figures, "save_figure", failing(after=2))
    with pytest.raises(SencaError, match=r"cannot be written.*No space.*--out"):
        write_figures(study, tmp_path)
    assert list(tmp_path.iterdir()) == [old] and old.read_text() == "old"


def run(*options: str) -> Result:
    return CliRunner().invoke(app, options)


@pytest.mark.usefixtures("unsaved")
def test_the_command_lists_what_it_wrote_and_what_it_left_out(changed: Path) -> None:
    (changed / keys.PORTRAIT_FOLDER / "U1.parquet").unlink()
    result = run(str(changed), "--section", "B1", "--section", "U1", "--width", "single")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == str(changed / "figures")
    assert lines[1:9:2] == [f"  {name}_B1.pdf, .png" for name in EVERY]
    assert "left out, figure2 of B1, U1: made without H&E: the section has no image" in lines
    assert any(line.startswith("left out, figure5 of U1: nothing is kept") for line in lines)
    assert (changed / "figures" / "figure3_B1.pdf").is_file()


def test_the_command_passes_errors_on_and_its_help_teaches(study: Path, tmp_path: Path) -> None:
    wrong = run(str(study), "--section", "X1", "--out", str(tmp_path / "out"))
    assert isinstance(wrong.exception, ProblemsError) and not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    taken = run(str(study), "--section", "U1", "--out", str(tmp_path / "file"))
    assert isinstance(taken.exception, SencaError) and "another --out" in str(taken.exception)
    text = run("--help").output
    assert all(word in text for word in (*EVERY, "figure_cohort", "--width", "Examples:"))
