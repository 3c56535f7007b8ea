from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.sparse import csr_matrix

from senca_ray import keys
from senca_ray.data.readers.spatial_data import SpatialDataReader
from senca_ray.data.section import RawSection
from senca_ray.errors import Problem, ProblemsError, SencaError

pytest.importorskip("zarr")
if importlib.util.find_spec("spatialdata") is None:
    pytest.skip("the optional package spatialdata is not installed", allow_module_level=True)

LIMIT = 1_000_000
READER = SpatialDataReader()
ROWS, COLUMNS = (part.ravel() for part in np.mgrid[0:5, 0:6])
COUNTS = np.random.default_rng(0).poisson(1.0, (30, 4)).astype(np.float32)
PLACES = 100.0 * np.column_stack([COLUMNS, ROWS]) + 50
PIXELS = np.random.default_rng(1).integers(0, 256, (3, 520, 600), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SENCA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def table_of(region: str, spatial: bool = False) -> anndata.AnnData:
    obs = pd.DataFrame(
        {"label": ["tumour", "stroma"] * 15, "patient": f"P-{region}", "region": region, "shape": range(30)},
        index=[f"{region}-{i}" for i in range(30)],
    )
    data = anndata.AnnData(csr_matrix(COUNTS), obs=obs, var=pd.DataFrame(index=list("ABCD")))
    if spatial:
        data.obsm["spatial"] = PLACES
    return data


def write_store(
    path: Path,
    regions: tuple[str, ...] = ("spots",),
    *,
    image: np.ndarray | None = PIXELS,
    levels: bool = False,
) -> Path:
    """Sections of 30 spots each that share an image; a pixel of it is half a unit of the shapes."""
    with warnings.catch_warnings():
        # What two libraries below tell their developers.
        warnings.filterwarnings("ignore", "Call to deprecated class Scaler", DeprecationWarning)
        warnings.filterwarnings("ignore", "zarr v3 autosharding", UserWarning)
        from spatialdata import SpatialData
        from spatialdata.models import Image2DModel, ShapesModel, TableModel
        from spatialdata.transformations import Identity, Scale

        # The shapes' order is not the table's.
        elements = {
            name: ShapesModel.parse(
                PLACES[::-1] / 2,
                geometry=0,
                radius=10,
                index=np.arange(30)[::-1],
                transformations={"global": Identity()},
            )
            for name in regions
        }
        table = anndata.concat([table_of(region) for region in regions])
        table.obs["region"] = table.obs["region"].astype("category")
        elements["table"] = TableModel.parse(
            table, region=list(regions), region_key="region", instance_key="shape"
        )
        if image is not None:
            elements["image"] = Image2DModel.parse(
                image,
                dims=("c", "y", "x"),
                transformations={"global": Scale([0.5, 0.5], axes=("x", "y"))},
                scale_factors=[2] if levels else None,
            )
        SpatialData.init_from_elements(elements).write(path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one section, to be read only."""
    return write_store(tmp_path_factory.mktemp("made") / "A1.zarr", levels=True)


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(made, tmp_path / "A1.zarr")


def read_one(path: Path, **changes: object) -> RawSection:
    (files,) = READER.find(path)
    return READER.read(replace(files, **changes), LIMIT)


def problems_of(path: Path, **changes: object) -> list[Problem]:
    try:
        read_one(path, **changes)
    except ProblemsError as error:
        return list(error.problems)
    return []


def test_reads_what_was_written(made: Path, cache: Path) -> None:
    (files,) = READER.find(made)
    assert READER.recognises(made) and READER.recognises(made.parent) and READER.find(made.parent) == [files]
    assert (files.sample, files.patient, files.part) == ("A1", "P-spots", None)
    assert (files.label_source, files.image) == (keys.ANNOTATED, None)
    assert files.place(files.counts) == "A1.zarr"
    found = READER.read(files, LIMIT)
    assert found.spots[:2] == ("spots-0", "spots-1") and found.genes == tuple("ABCD")
    np.testing.assert_array_equal(found.counts.toarray(), COUNTS)
    np.testing.assert_allclose(found.pixel_xy, PLACES)
    np.testing.assert_allclose(found.xy, PLACES / 100)
    assert found.labels is not None and found.labels[:2] == ("tumour", "stroma")
    image = found.files.image
    assert image is not None and image.parent == cache / "embedded-images"
    np.testing.assert_array_equal(tifffile.imread(image), np.moveaxis(PIXELS, 0, -1))
    before = image.stat().st_mtime_ns
    assert READER.read(files, LIMIT).files.image == image and image.stat().st_mtime_ns == before


def test_every_region_is_a_section(tmp_path: Path) -> None:
    path = write_store(tmp_path / "both.zarr", ("left", "right"), image=None)
    files = READER.find(tmp_path)
    assert [(f.sample, f.patient, f.part) for f in files] == [
        ("both-left", "P-left", "table/left"),
        ("both-right", "P-right", "table/right"),
    ]
    found = READER.read(files[1], LIMIT)
    assert found.spots[0] == "right-0" and found.counts.shape == (30, 4) and found.modality == keys.RNA
    np.testing.assert_allclose(found.xy, PLACES / 100)
    with pytest.raises(ProblemsError, match="no table annotates table/middle"):
        READER.read(replace(files[0], part="table/middle"), LIMIT)
    assert READER.find(path) == files


def test_an_image_of_other_channels_is_left_out_with_a_note(tmp_path: Path) -> None:
    path = write_store(tmp_path / "A1.zarr", image=np.concatenate([PIXELS, PIXELS])[:5])
    found = read_one(path)
    assert found.modality == keys.RNA and found.pixel_xy is None
    assert "image 'image' left out: 5 channels, not red, green and blue" in found.notes


def test_a_missing_package_is_named_with_its_command(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files,) = READER.find(made)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for ask in (lambda: READER.find(made), lambda: READER.read(files, LIMIT)):
        with pytest.raises(SencaError, match=r"pip install 'senca-ray\[spatialdata\]'"):
            ask()


# --- Malformed stores --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Malformed:
    kind: str
    damage: Callable[[Path], object]
    finding: str
    files: dict | None = None


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def without(store: Path, place: str) -> None:
    shutil.rmtree(store / place)
    for path in store.rglob("zarr.json"):
        edit_json(path, lambda content: content.pop("consolidated_metadata", None))


def pickled(store: Path) -> None:
    array = {"zarr_format": 2, "filters": [{"id": "pickle"}], "shape": [1], "dtype": "|O"}
    (store / "tables/table/obsm/bad").mkdir()
    (store / "tables/table/obsm/bad/.zarray").write_text(json.dumps(array))


def chunks_of(store: Path, place: str) -> list[Path]:
    return [p for p in (store / place).rglob("*") if p.is_file() and p.name != "zarr.json"]


def scramble(store: Path, place: str) -> None:
    for path in chunks_of(store, place):
        path.write_bytes(b"not what it was")


def many_shapes(content: dict) -> None:
    content["shape"] = [10**12]


def move(store: Path, by: float) -> None:
    import geopandas

    path = store / "shapes/spots/shapes.parquet"
    shapes = geopandas.read_parquet(path)
    shapes.geometry = shapes.geometry.translate(by)
    shapes.to_parquet(path)


def drop_shapes(store: Path) -> None:
    import geopandas

    path = store / "shapes/spots/shapes.parquet"
    geopandas.read_parquet(path).iloc[3:].to_parquet(path)


MALFORMED = [
    Malformed(
        "metadata-cut-off",
        lambda s: (s / "tables/table/X/zarr.json").write_text("{"),
        "tables/table/X/zarr.json cannot be read as JSON",
    ),
    Malformed("pickled", pickled, "tables/table/obsm/bad/.zarray holds pickled data"),
    Malformed("no-counts", lambda s: without(s, "tables/table/X"), "no X found, nor layers['counts']"),
    Malformed("no-table", lambda s: without(s, "tables/table"), "no table that annotates a region"),
    Malformed("damaged-counts", lambda s: scramble(s, "tables/table/X/data"), "X cannot be read"),
    Malformed(
        "declared-beyond-reason",
        lambda s: (
            without(s, "tables/table/varm"),
            edit_json(s / "tables/table/obs/label/zarr.json", many_shapes),
        ),
        "declares 1,000,000,000,000 values",
    ),
    Malformed("shapes-missing", drop_shapes, "3 spots without a shape in 'spots': '27', '28', '29'"),
    Malformed("no-positions", lambda s: without(s, "shapes/spots"), "no obsm['spatial']"),
    Malformed("damaged-shapes", lambda s: scramble(s, "shapes/spots"), "cannot be opened as SpatialData"),
    Malformed("outside-the-image", lambda s: move(s, 100.0), "10 of 30 spots outside the image of 600 x 520"),
    Malformed("damaged-image", lambda s: scramble(s, "images/image"), "the image 'image' cannot be decoded"),
    Malformed(
        "label-column-missing", lambda s: None, "no column 'domain' in obs", {"label_column": "domain"}
    ),
    Malformed("label-file", lambda s: None, "label file for SpatialData", {"labels": Path("labels.csv")}),
]


@pytest.mark.parametrize("case", MALFORMED, ids=[case.kind for case in MALFORMED])
def test_malformed(case: Malformed, store: Path, cache: Path) -> None:
    case.damage(store)
    (problem,) = problems_of(store, **(case.files or {}))
    assert problem.sample == "A1"
    assert case.finding in problem.message
    left = list(cache.rglob("*.tmp"))
    assert not left


def test_an_image_above_the_limit_is_not_read(made: Path) -> None:
    (files,) = READER.find(made)
    with pytest.raises(ProblemsError, match="declares 600 x 520 pixels; expected at most 1,000"):
        READER.read(files, 1000)


def test_a_folder_without_stores_is_a_problem(tmp_path: Path) -> None:
    assert not READER.recognises(tmp_path)
    with pytest.raises(ProblemsError, match=r"expected a store SAMPLE\.zarr"):
        READER.find(tmp_path)
