from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import shapely
import typer
from portrait_toys import toy_portrait
from report.study_folder import make_benchmark, make_study
from typer.testing import CliRunner

from senca_ray import keys
from senca_ray.analysis.description import read_description
from senca_ray.analysis.embeddings import read_embedding, write_embedding
from senca_ray.analysis.portrait import Portrait, read_portrait, write_portrait
from senca_ray.analysis.results import read_regions, read_results
from senca_ray.cli_export import export
from senca_ray.data.sample import ALL_GENES
from senca_ray.data.shards import read_display, read_sample
from senca_ray.errors import ProblemsError, SencaError
from senca_ray.export import spatial_data
from senca_ray.export.anndata_file import section_anndata, write_anndata
from senca_ray.export.geojson import section_outlines
from senca_ray.export.section import ExportedSection
from senca_ray.export.study import export_study
from senca_ray.export.tables import spot_regions, write_csv

app = typer.Typer(rich_markup_mode=None)
app.command()(export)


def rows_of(study: Path, sample: str) -> pd.DataFrame:
    """The rows of a study's default setting, or reference, on a section, with their regions."""
    description = read_description(study)
    rows = read_results(study).merge(read_regions(study), on=list(keys.ROW_KEY))
    named = rows[keys.SETTING] == description["default"] if "default" in description else True
    return rows[(rows[keys.METHOD] == "senca") & (rows[keys.SAMPLE] == sample) & named]


def with_portraits(study: Path) -> Path:
    """Give a study portraits of its own consensus regions."""
    for sample, shard in read_description(study)["shards"].items():
        rows = rows_of(study, sample)
        row = rows[rows[keys.CLUSTERING] == keys.CONSENSUS].iloc[0]
        portrait = toy_portrait(sample, read_display(shard).xy, setting=row[keys.SETTING])
        write_portrait(study, replace(portrait, regions=np.array(row[keys.REGIONS])), made_from="made up")
    return study


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep with portraits, two sections exported; to be read only. B1 has no image."""
    study = with_portraits(make_study(tmp_path_factory.mktemp("export")))
    found = export_study(study, sections=["A1", "B1"], with_spatialdata=True)
    assert not found.left_out and found.files["A1"][-1] == "A1.zarr"
    return study


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    """The same, not exported, to be changed; its shards too."""
    copy = shutil.copytree(made, tmp_path / "study", ignore=shutil.ignore_patterns("export"))
    shutil.copytree(made.parent / "shards", tmp_path / "shards")
    description = json.loads((copy / keys.STUDY_FILE).read_text())
    description["shards"] = {
        k: str(tmp_path / "shards" / Path(v).name) for k, v in description["shards"].items()
    }
    (copy / keys.STUDY_FILE).write_text(json.dumps(description))
    return copy


def change(study: Path, sample: str, **changes: object) -> Portrait:
    portrait = replace(read_portrait(study, sample), **changes)
    write_portrait(study, portrait, made_from="changed")
    return portrait


def shard_of(study: Path, sample: str) -> Path:
    return Path(read_description(study)["shards"][sample])


def read_section_of(study: Path, sample: str) -> ExportedSection:
    from senca_ray.export.section import read_section

    return read_section(
        *(study, str(shard_of(study, sample)), read_portrait(study, sample), rows_of(study, sample)),
        read_description(study),
    )


def test_the_h5ad_holds_what_the_shard_and_the_portrait_hold(made: Path) -> None:
    data = anndata.read_h5ad(made / "export/A1/A1.h5ad")
    sample, portrait = read_sample(str(shard_of(made, "A1")), ALL_GENES), read_portrait(made, "A1")
    np.testing.assert_array_equal(data.X.toarray(), sample.counts.toarray())
    assert data.var_names.tolist() == list(sample.genes)
    assert data.obs_names[:2].tolist() == ["0x0", "1x0"]
    np.testing.assert_array_equal(data.obs["region"].cat.codes, portrait.regions)
    np.testing.assert_array_equal(data.obs["kind"].astype(int), np.array(portrait.kinds)[portrait.regions])
    np.testing.assert_array_equal(data.obs["confidence"], portrait.confidence)
    np.testing.assert_array_equal(data.obs["label"], sample.labels)
    np.testing.assert_array_equal(data.obsm["X_umap"], portrait.umap)
    np.testing.assert_array_equal(data.obsm["spatial"], (sample.xy + 2.5) * 160)
    kept = read_embedding(made, portrait.method, portrait.setting, "A1")
    np.testing.assert_array_equal(data.obsm["X_senca"], kept.values)
    assert data.uns["senca"]["embedding_seed"] == kept.seed
    assert len(data.uns["region_colors"]) == len(data.obs["region"].cat.categories) == 4


def test_the_h5ad_tells_how_its_regions_came_about(made: Path) -> None:
    told = anndata.read_h5ad(made / "export/A1/A1.h5ad").uns["senca"]
    row = rows_of(made, "A1").query("clustering == 'consensus'").iloc[0]
    scores = json.loads(told["scores"])
    assert scores[keys.ARI] == row[keys.ARI] and scores[keys.K] == 4 and scores[keys.NMI] is None
    assert scores[keys.LABEL_F1] == json.loads(row[keys.LABEL_F1])
    assert told["regions_of"] == "consensus of 3 seeds" and told["seeds"].tolist() == [0, 1, 2]
    assert (told["k_policy"], told["clustering"]) == ("labels", "ward")
    assert told["fingerprint"] == "0" * 64 and told["spatial_unit"].startswith("pixels")
    assert told["label_source"] == keys.ANNOTATED and not told["simulated"]
    spots = anndata.read_h5ad(made / "export/B1/B1.h5ad")
    assert spots.uns["senca"]["spatial_unit"] == "spot distances" and "spatial" not in spots.uns
    assert spots.obsm["spatial"].max() == 13


def test_scanpy_squidpy_and_spatialdata_draw_the_files_as_the_docs_tell(made: Path) -> None:
    # In a process of its own: importing squidpy 1.8 warns, and warnings are errors here.
    told = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", told, re.DOTALL)
    assert len(blocks) == 4
    before = """
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt, numpy as np
"""
    after = """
# Squidpy drew last.
drawn, at = plt.gca(), a1.obsm["spatial"] * 0.25
assert sorted(set(np.asarray(a1.obsp["spatial_connectivities"].sum(axis=1)).ravel())) == [2, 3, 4]
(image,), spots = drawn.images, drawn.collections[0]
left, right, bottom, top = image.get_extent()
assert abs(right - left) == a1.uns["spatial"]["A1"]["images"]["hires"].shape[1] > at.max()
np.testing.assert_allclose([p.get_extents().intervalx.mean() for p in spots.get_paths()], at[:, 0])
assert np.array_equal(whole["table"].obs["region"], a1.obs["region"]) and len(outlines) == 4
assert np.array_equal(whole["table"].X.toarray(), a1.X.toarray())
b1 = sc.read_h5ad("export/B1/B1.h5ad")
sq.gr.spatial_neighbors_grid(b1)
sq.pl.spatial_scatter(b1, color="kind", shape=None)
print("drawn")
"""
    code = "".join([before, *blocks, after])
    ran = subprocess.run([sys.executable, "-c", code], cwd=made, capture_output=True, text=True)
    assert ran.stdout.endswith("drawn\n"), ran.stderr


def rings(geometry: dict) -> list[list]:
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [ring for part in parts for ring in part]


@pytest.mark.parametrize("sample", ["A1", "B1"])
def test_the_geojson_is_what_qupath_reads(made: Path, sample: str) -> None:
    name = {"A1": "A1_regions.geojson", "B1": "B1_regions_spots.geojson"}[sample]
    content = json.loads((made / "export" / sample / name).read_text())
    assert content["type"] == "FeatureCollection"
    section = read_section_of(made, sample)
    assert content["senca"]["unit"] == section.unit and content["senca"]["sample"] == sample
    assert [f["properties"]["name"] for f in content["features"]] == [
        f"{sample} region {r}" for r in range(4)
    ]
    outlines = []
    for region, feature in enumerate(content["features"]):
        properties, inside = feature["properties"], section.portrait.regions == region
        assert feature["type"] == "Feature" and properties["objectType"] == "annotation"
        assert properties["classification"]["name"] == f"kind {region}"
        assert all(0 <= part <= 255 for part in properties["classification"]["color"])
        measured = properties["measurements"]
        assert all(isinstance(value, int | float) for value in measured.values())
        assert (measured["spots"], measured["regions in section"]) == (inside.sum(), 4)
        assert measured["mean confidence"] == pytest.approx(section.portrait.confidence[inside].mean())
        for ring in rings(feature["geometry"]):
            assert ring[0] == ring[-1] and len(ring) >= 4
        outline = shapely.geometry.shape(feature["geometry"])
        assert outline.is_valid and feature["geometry"]["type"] in ("Polygon", "MultiPolygon")
        for part in getattr(outline, "geoms", [outline]):
            assert part.exterior.is_ccw and not any(hole.is_ccw for hole in part.interiors)
        np.testing.assert_array_equal(shapely.contains_xy(outline, *section.places.T), inside)
        outlines.append(outline)
    left, top, right, bottom = shapely.union_all(outlines).bounds
    if sample == "A1":
        height, width = section.image.shape[:2]
        assert min(left, top) >= 0 and right <= 4 * width and bottom <= 4 * height
        # Pixels of the full-resolution image: a spot distance is 160 of them.
        assert right - left == pytest.approx((13 + 1.5) * 160, abs=0.05 * 160)
    assert shapely.area(shapely.union_all(outlines)) == pytest.approx(sum(o.area for o in outlines), rel=1e-6)


def test_outlines_end_at_the_edges_of_the_image(made: Path) -> None:
    section = read_section_of(made, "A1")
    moved = replace(section, pixel_xy=section.pixel_xy - section.pixel_xy.min(axis=0) + 1)
    outlines = section_outlines(moved)
    assert shapely.union_all(list(outlines.values())).bounds[:2] == (0, 0)
    for region, outline in outlines.items():
        inside = shapely.contains_xy(outline, *moved.places.T)
        np.testing.assert_array_equal(inside, moved.portrait.regions == region)


def test_the_tables_say_the_same(made: Path) -> None:
    spots = pd.read_csv(made / "export/A1/A1_regions.csv", index_col="spot")
    data = anndata.read_h5ad(made / "export/A1/A1.h5ad")
    assert spots.index.tolist() == data.obs_names.tolist()
    np.testing.assert_array_equal(spots["region"].astype(str), data.obs["region"])
    np.testing.assert_array_equal(spots[["pixel_x", "pixel_y"]], data.obsm["spatial"])
    assert spots.columns.tolist() == ["x", "y", "pixel_x", "pixel_y", "region", "kind", "confidence", "label"]
    assert pd.read_csv(made / "export/B1/B1_regions.csv")["pixel_x"].isna().all()
    markers = pd.read_csv(made / "export/A1/A1_markers.csv")
    pd.testing.assert_frame_equal(markers, read_portrait(made, "A1").markers)
    cohort = pd.read_csv(made / "export/cohort_regions.csv")
    assert len(cohort) == 16 and cohort["patient"].unique().tolist() == ["A", "B", "C"]
    assert cohort.groupby("sample")["share"].sum().tolist() == pytest.approx([1] * 4)
    assert cohort.loc[0, "top_markers"] == "GENE00; GENE01; GENE02"
    assert "p-values" in (made / "export/README.txt").read_text()


def test_a_text_that_a_spreadsheet_would_run_is_safe(made: Path, tmp_path: Path) -> None:
    section = read_section_of(made, "B1")
    labels = np.array(["=1+1", "a, b", "two\nlines", '"', "@SUM(A1)", "-1", "\t=1", "plain"] * 24 + ["x"] * 4)
    changed = replace(
        section, sample=replace(section.sample, labels=labels, annotations={"=p": labels[::-1]})
    )
    write_csv(spot_regions(changed), tmp_path / "spots.csv")
    read = pd.read_csv(tmp_path / "spots.csv")
    expected = ["'=1+1", "a, b", "two\nlines", '"', "'@SUM(A1)", "'-1", "'\t=1", "plain"]
    assert read["label"].tolist()[:8] == expected and len(read) == 196
    assert read["label.=p"].tolist()[-8:] == expected[::-1]
    write_anndata(changed, tmp_path / "spots.h5ad")
    obs = anndata.read_h5ad(tmp_path / "spots.h5ad").obs
    assert obs["label"].tolist() == labels.tolist() and obs["label.=p"].tolist() == labels[::-1].tolist()


def test_spots_left_out_of_clustering_have_no_region(made: Path, tmp_path: Path) -> None:
    section = read_section_of(made, "A1")
    regions = section.portrait.regions.copy()
    regions[:5] = keys.NO_REGION
    changed = replace(section, portrait=replace(section.portrait, regions=regions))
    data = section_anndata(changed)
    np.testing.assert_array_equal(data.obs["region"].cat.codes, regions)
    assert data.obs["kind"].isna().sum() == 5
    write_csv(spot_regions(changed), tmp_path / "spots.csv")
    read = pd.read_csv(tmp_path / "spots.csv")
    assert read["region"][:5].isna().all() and read["kind"][:5].isna().all()
    assert read["region"][5:].tolist() == regions[5:].tolist()


def test_a_portrait_of_regions_alone_is_exported(study: Path) -> None:
    row = rows_of(study, "A1").query("seed == 2").iloc[0]
    portrait = Portrait("A1", "senca", row[keys.SETTING], np.array(row[keys.REGIONS]), n_seeds=1)
    write_portrait(study, portrait, made_from="one seed")
    shutil.rmtree(study / keys.EMBEDDING_FOLDER)
    found = export_study(study, sections=["A1"])
    assert found.files["A1"][-1] == "A1_regions.geojson" and not found.left_out
    data = anndata.read_h5ad(found.folder / "A1/A1.h5ad")
    assert sorted(data.obs) == ["label", "region"] and list(data.obsm) == ["spatial"]
    assert data.uns["senca"]["regions_of"] == "seed 2" and data.uns["senca"]["seeds"].tolist() == [2]
    assert json.loads(data.uns["senca"]["scores"])[keys.ARI] == row[keys.ARI]
    features = json.loads((found.folder / "A1/A1_regions.geojson").read_text())["features"]
    assert features[0]["properties"]["classification"]["name"] == "region 0"
    assert set(features[0]["properties"]["measurements"]) == {
        *("region", "regions in section", "spots", "share of spots")
    }
    # The table of the cohort is of all sections, whichever are exported.
    assert len(pd.read_csv(found.folder / "cohort_regions.csv")) == 16


def test_what_cannot_be_exported_is_told_and_the_rest_is_written(study: Path) -> None:
    shutil.rmtree(shard_of(study, "A2"))
    (study / keys.PORTRAIT_FOLDER / "B1.parquet").write_bytes(b"no table")
    change(study, "C1", regions=np.zeros(196, np.int16))
    found = export_study(study)
    assert list(found.files) == ["A1"]
    told = {problem.sample: problem.message for problem in found.left_out}
    assert "shard.json is missing" in told["A2"] and "not a portrait" in told["B1"]
    assert "older than the results" in told["C1"] and len(told) == 3
    (study / keys.PORTRAIT_FOLDER / "A1.parquet").unlink()
    with pytest.raises(ProblemsError, match=f"no portrait of it in the study; `senca report {study}`"):
        export_study(study)


def test_a_shard_made_again_since_is_told(study: Path) -> None:
    path = shard_of(study, "A1") / keys.SHARD_FILE
    path.write_text(path.read_text().replace("0" * 64, "1" * 64))
    (shard_of(study, "A2") / keys.SPOTS_FILE).write_bytes(b"torn")
    told = {problem.sample: problem.message for problem in export_study(study).left_out}
    assert "not the shard that the study ran on" in told["A1"] and "cannot be read" in told["A2"]


def test_an_embedding_of_other_spots_is_told(study: Path) -> None:
    row = rows_of(study, "A2").iloc[0].to_dict() | {keys.SEED: 1}
    write_embedding(study, row, np.zeros((7, 2), np.float32))
    (problem,) = export_study(study).left_out
    assert problem.sample == "A2" and "holds 7 spots; expected 196" in problem.message


def test_spots_at_one_place_cost_a_section_its_outlines_only(made: Path, study: Path) -> None:
    path = shard_of(study, "A1") / keys.SPOTS_FILE
    spots = pd.read_parquet(path)
    spots.loc[3, ["pixel_x", "pixel_y"]] = spots.loc[4, ["pixel_x", "pixel_y"]]
    spots.to_parquet(path)
    found = export_study(study, sections=["A1"])
    assert found.files["A1"] == ("A1.h5ad", "A1_regions.csv", "A1_markers.csv")
    assert "spots 3 and 4 lie at the same place" in found.left_out[0].message


def test_no_file_is_written_outside(study: Path, tmp_path: Path) -> None:
    description = json.loads((study / keys.STUDY_FILE).read_text())
    for name in ("../../out", "..", "a/b", "/tmp/x", ""):
        description["shards"][name] = description["shards"]["A1"]
    (study / keys.STUDY_FILE).write_text(json.dumps(description))
    before = sorted(path for path in tmp_path.rglob("*"))
    found = export_study(study)
    assert list(found.files) == ["A1", "A2", "B1", "C1"]
    assert [p.message.split(";")[0] for p in found.left_out] == ["not a sample id"] * 5
    new = [path for path in tmp_path.rglob("*") if path not in before]
    assert all(path.is_relative_to(study / "export") for path in new)


def test_all_wrong_options_are_told_at_once_and_nothing_is_written(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(spatial_data, "missing", lambda: "not installed; pip install x")
    with pytest.raises(ProblemsError) as caught:
        export_study(study, tmp_path / "file" / "deep", ["A1", "Z9", "Z9"], with_spatialdata=True)
    assert [problem.place for problem in caught.value.problems] == ["--section", "--spatialdata", "--out"]
    with pytest.raises(ProblemsError, match="pip install x"):
        export_study(study, with_spatialdata=True)
    assert not (study / "export").exists()
    with pytest.raises(SencaError, match="not a study"):
        export_study(tmp_path)


def test_without_the_extra_the_command_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spatial_data.missing() == ""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'senca-ray[spatialdata]'" in spatial_data.missing()


def test_the_zarr_has_spots_regions_and_image_in_one_frame(made: Path) -> None:
    import spatialdata

    whole, section = spatialdata.read_zarr(made / "export/A1/A1.zarr"), read_section_of(made, "A1")
    spots, regions = whole["A1_spots"], whole["A1_regions"]
    np.testing.assert_array_equal(spots.geometry.get_coordinates(), section.pixel_xy)
    assert spots["radius"].unique().tolist() == [40] and spots.index.tolist() == list(section.spots)
    assert whole["table"].obs["region"].cat.codes.tolist() == section.portrait.regions.tolist()
    for region, outline in section_outlines(section).items():
        assert regions.geometry.iloc[region].equals(outline)
    extent = spatialdata.get_extent(whole["A1_image"])
    height, width = section.image.shape[:2]
    assert extent["x"] == (0, 4 * width) and extent["y"] == (0, 4 * height)
    np.testing.assert_array_equal(whole["A1_image"].transpose("y", "x", "c"), section.image)
    assert sorted(
        name for _, name, _ in spatialdata.read_zarr(made / "export/B1/B1.zarr").gen_elements()
    ) == [*("B1_regions", "B1_spots", "table")]


def test_a_zarr_that_cannot_be_written_leaves_the_earlier_one(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import spatialdata

    section, path = read_section_of(made, "B1"), tmp_path / "B1.zarr"
    outlines = section_outlines(section)
    content = ["earlier", "later", None]

    def write(self: object, folder: Path) -> None:
        folder.mkdir()
        (folder / "content").write_text(content[0] or "half")
        if content.pop(0) is None:
            raise OSError("no space left")

    monkeypatch.setattr(spatialdata.SpatialData, "write", write)
    for expected in ("earlier", "later"):
        spatial_data.write_zarr(section, outlines, path)
        assert (path / "content").read_text() == expected
    with pytest.raises(SencaError, match="no space left"):
        spatial_data.write_zarr(section, outlines, path)
    assert [left.name for left in tmp_path.iterdir()] == ["B1.zarr"]
    assert (path / "content").read_text() == "later"


def test_a_benchmark_is_exported_with_the_regions_of_its_reference(tmp_path: Path) -> None:
    study = with_portraits(make_benchmark(tmp_path, simulated=True))
    found = export_study(study, sections=["A1"])
    told = anndata.read_h5ad(found.folder / "A1/A1.h5ad").uns["senca"]
    assert (told["method"], told["clustering"], told["simulated"]) == ("senca", "ward", True)
    assert "Simulated cohort" in (found.folder / "README.txt").read_text()


def test_the_command_says_what_it_wrote_and_what_not(study: Path, tmp_path: Path) -> None:
    shutil.rmtree(shard_of(study, "A2"))
    out = tmp_path / "out"
    ran = CliRunner().invoke(app, [str(study), "--out", str(out), "--section", "A1", "--section", "A2"])
    assert ran.exit_code == 0, ran.output
    assert "A1: A1.h5ad, A1_regions.csv, A1_markers.csv, A1_regions.geojson" in ran.output
    assert "left out: A2" in ran.output and (out / "cohort_regions.csv").exists()
    assert sorted(path.name for path in out.iterdir()) == ["A1", "README.txt", "cohort_regions.csv"]
