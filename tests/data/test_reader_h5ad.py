from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import csc_matrix, csr_matrix, random_array

from senca_ray import keys
from senca_ray.config import PrepareConfig
from senca_ray.data.readers import anndata_elements
from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.h5ad import H5adReader
from senca_ray.data.readers.matrices import checked_counts
from senca_ray.data.section import RawSection, SectionFiles
from senca_ray.data.stages import Recipe, Todo, read_section
from senca_ray.errors import Problem, ProblemsError

LIMIT = 1_000_000
READER = H5adReader()
ROWS, COLUMNS = (part.ravel() for part in np.mgrid[0:5, 0:6])
COUNTS = np.random.default_rng(0).poisson(1.0, (30, 4)).astype(np.float32)
PLACES = 100.0 * np.column_stack([COLUMNS, ROWS]) + 50
LABELS = ["tumour", "stroma", None] * 10


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SENCA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def section() -> anndata.AnnData:
    """30 spots on a square grid, 100 pixels apart, with labels and a patient, without image."""
    obs = pd.DataFrame(
        {"label": pd.Categorical(LABELS), "patient": "P 7", "array_row": ROWS, "array_col": COLUMNS},
        index=[f"s{i}" for i in range(30)],
    )
    data = anndata.AnnData(csr_matrix(COUNTS), obs=obs, var=pd.DataFrame(index=list("ABCD")))
    data.obsm["spatial"] = PLACES
    return data


def add_hires(data: anndata.AnnData, scale: float = 0.5) -> np.ndarray:
    pixels = np.random.default_rng(1).integers(0, 256, (300, 350, 3), dtype=np.uint8)
    data.uns["spatial"] = {
        "library": {"images": {"hires": pixels}, "scalefactors": {"tissue_hires_scalef": scale}}
    }
    return pixels


def written(root: Path, data: anndata.AnnData, name: str = "A1") -> Path:
    path = root / f"{name}.h5ad"
    data.write_h5ad(path)
    return path


def read_one(path: Path, **changes: object) -> RawSection:
    (files,) = READER.find(path)
    return READER.read(replace(files, **changes), LIMIT)


def problems_of(path: Path, **changes: object) -> list[Problem]:
    try:
        read_one(path, **changes)
    except ProblemsError as error:
        return list(error.problems)
    return []


# --- What is read ------------------------------------------------------------------------------------


def test_reads_what_was_written(tmp_path: Path) -> None:
    path = written(tmp_path, section())
    found = read_one(path)
    assert READER.recognises(path) and READER.recognises(tmp_path)
    assert (found.files.sample, found.files.patient, found.files.root) == ("A1", "P_7", tmp_path)
    assert found.spots[:2] == ("s0", "s1") and found.genes == tuple("ABCD")
    assert found.counts.dtype == np.int32
    np.testing.assert_array_equal(found.counts.toarray(), COUNTS)
    np.testing.assert_array_equal(found.xy, np.column_stack([COLUMNS, ROWS]))
    assert found.labels is not None and found.labels[:3] == ("tumour", "stroma", keys.UNDETERMINED)
    assert found.files.label_source == keys.ANNOTATED and found.modality == keys.RNA
    assert found.notes == ("counts from X", f"10 spots without a label: {keys.UNDETERMINED}")


@pytest.mark.parametrize("kind", [np.asarray, csr_matrix, csc_matrix], ids=["dense", "csr", "csc"])
def test_a_matrix_may_be_stored_in_any_form(
    tmp_path: Path, kind: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anndata_elements, "_BLOCK", 100)  # Several blocks of rows of a dense one.
    data = section()
    data.X = kind(COUNTS)
    np.testing.assert_array_equal(read_one(written(tmp_path, data)).counts.toarray(), COUNTS)


@pytest.mark.parametrize("place", ["layers['counts']", "raw.X"])
def test_counts_are_found_where_x_is_normalised(tmp_path: Path, place: str) -> None:
    data = section()
    if place == "raw.X":
        data.raw = data.copy()
        data = data[:, :3].copy()
    else:
        data.layers["counts"] = data.X.copy()
    data.X = csr_matrix(np.log1p(data.X.toarray()))
    found = read_one(written(tmp_path, data))
    np.testing.assert_array_equal(found.counts.toarray(), COUNTS)
    assert found.genes == tuple("ABCD") and found.notes[0] == f"counts from {place}: X holds other numbers"


def test_visiums_grid_is_told_from_a_square_one(tmp_path: Path) -> None:
    data = section()
    data.obs["array_col"] = 2 * COLUMNS + ROWS % 2
    data.obsm["spatial"] = np.column_stack([50.0 * data.obs["array_col"], ROWS * 100 * np.sqrt(3) / 2])
    found = read_one(written(tmp_path, data))
    np.testing.assert_allclose(found.xy, data.obsm["spatial"] / 100)
    assert found.spot_distance_um == 100


def test_without_array_coordinates_positions_are_divided_by_the_spot_distance(tmp_path: Path) -> None:
    data = section()
    del data.obs["array_row"]
    found = read_one(written(tmp_path, data))
    np.testing.assert_allclose(found.xy, PLACES / 100)
    assert found.spot_distance_um is None


def test_the_hires_image_becomes_a_picture_file(tmp_path: Path, cache: Path) -> None:
    data = section()
    pixels = add_hires(data)
    path = written(tmp_path, data)
    (files,) = READER.find(path)
    assert files.image is None
    found = read_one(path)
    image = found.files.image
    assert image is not None and image.parent == cache / "embedded-images"
    np.testing.assert_array_equal(np.asarray(Image.open(image)), pixels)
    np.testing.assert_array_equal(found.pixel_xy, PLACES * 0.5)
    before = image.stat().st_mtime_ns
    assert read_one(path).files.image == image and image.stat().st_mtime_ns == before
    data.uns["spatial"]["library"]["images"]["hires"] = pixels / np.float32(255)
    assert read_one(written(tmp_path, data)).files.image == image


@pytest.mark.parametrize("read_images", [True, False])
def test_an_embedded_image_is_left_unread_where_none_is_to_be_read(tmp_path: Path, read_images: bool) -> None:
    data = section()
    add_hires(data)
    (files,) = READER.find(written(tmp_path, data))
    recipe = Recipe(PrepareConfig(read_images=read_images, min_gene_count=0), None, "unused")
    row = read_section({"item": 0}, [Todo(files, "0")], recipe)
    assert row["problems"] == [] and (row["kept"] is not None) == read_images
    assert row["content"].meta["modality"] == (keys.RNA_IMAGE if read_images else keys.RNA)


def test_an_image_beside_the_file_comes_first(tmp_path: Path) -> None:
    data = section()
    add_hires(data)
    Image.new("RGB", (700, 600)).save(tmp_path / "A1.png")
    found = read_one(written(tmp_path, data))
    assert found.files.image == tmp_path / "A1.png"
    np.testing.assert_array_equal(found.pixel_xy, PLACES)


def test_a_folder_is_a_cohort_and_a_damaged_file_does_not_stop_its_listing(tmp_path: Path) -> None:
    written(tmp_path, section(), "B2")
    (tmp_path / "A1.h5ad").write_bytes(b"no HDF5")
    data = section()
    data.obs["patient"] = ["P1", "P2"] * 15
    del data.obs["label"]
    written(tmp_path, data, "C3")
    found = {f.sample: (f.patient, f.label_source) for f in READER.find(tmp_path)}
    assert found == {
        "A1": ("A1", keys.UNLABELLED),
        "B2": ("P_7", keys.ANNOTATED),
        "C3": ("C3", keys.UNLABELLED),
    }


def test_another_label_column_may_be_named(tmp_path: Path) -> None:
    data = section()
    data.obs["leiden"] = [0, 1, 2] * 10
    del data.obs["label"]
    found = read_one(written(tmp_path, data), label_column="leiden")
    assert found.labels is not None and found.labels[:3] == ("0", "1", "2")
    assert found.files.label_source == keys.ANNOTATED


def test_spots_off_the_tissue_are_left_out(tmp_path: Path) -> None:
    data = section()
    add_hires(data)
    data.obs["in_tissue"] = [0] + [1] * 29
    found = read_one(written(tmp_path, data))
    assert found.spots[0] == "s1" and found.counts.shape == (29, 4)
    assert found.pixel_xy is not None and len(found.pixel_xy) == len(found.xy) == 29
    assert "1 spot left out: obs['in_tissue'] is 0" in found.notes


def test_what_senca_exports_reads_back(tmp_path: Path) -> None:
    from senca_ray.data.sample import Sample
    from senca_ray.export.table import annotator_column, section_table

    labels = ("tumour", "stroma", keys.UNDETERMINED) * 10
    sample = Sample(
        name="A1",
        patient="P",
        label_source=keys.SIMULATED,
        fingerprint="0",
        encoder="none",
        genes=tuple("ABCD"),
        counts=csr_matrix(COUNTS.astype(np.int32)),
        total_counts=COUNTS.sum(axis=1),
        target_sum=1e4,
        xy=np.column_stack([COLUMNS, ROWS]).astype(float),
        neighbors=np.zeros((30, 1), dtype=np.int32),
        image_features=None,
        labels=np.array(labels),
        annotations={"smith": np.array(["tumour"] * 30)},
    )
    about = {"patient": "P", "simulated": True, "spatial_unit": "spot distances"}
    data = section_table(sample, [f"s{i}" for i in range(30)], ROWS % 2, about)
    data.obsm[keys.OBSM_SPATIAL] = sample.xy
    assert annotator_column("smith") in data.obs
    found = read_one(written(tmp_path, data))
    assert (found.files.patient, found.files.label_source) == ("P", keys.SIMULATED)
    assert found.files.simulated and found.labels == labels
    assert found.annotations == {"smith": ("tumour",) * 30}
    np.testing.assert_array_equal(found.xy, np.column_stack([COLUMNS, ROWS]))
    np.testing.assert_array_equal(found.counts.toarray(), COUNTS)


# --- Malformed files ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Malformed:
    kind: str
    finding: str
    change: Callable[[anndata.AnnData], object] = lambda data: None
    """Of the section, before it is written."""
    damage: Callable[[Path], object] = lambda path: None
    """Of the file."""
    files: dict | None = None


def in_h5(change: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return damage


def in_x(values: list[float]) -> Callable[[anndata.AnnData], None]:
    def change(data: anndata.AnnData) -> None:
        full = COUNTS.copy()
        full[2, : len(values)] = values
        data.X = csr_matrix(full)

    return change


def put(file: h5py.File, place: str, values: np.ndarray) -> None:
    attributes = dict(file[place].attrs)
    del file[place]
    file[place] = values
    file[place].attrs.update(attributes)


def bomb(file: h5py.File) -> None:
    attributes = dict(file["X"].attrs)
    del file["X"]
    file["X"] = file.create_dataset("bomb", (30, 10**11), "f4", chunks=(1, 10**6), compression="gzip")
    file["X"].attrs["encoding-type"], file["X"].attrs["encoding-version"] = "array", "0.2.0"
    del file["var/_index"]
    names = file.create_dataset("var/_index", (10**11,), h5py.string_dtype(), chunks=(10**6,))
    names.attrs["encoding-type"], names.attrs["encoding-version"] = "string-array", "0.2.0"
    assert attributes


def lead_out(path: Path) -> None:
    written(path.parent, section(), "other").rename(path.parent / "other.h5")
    with h5py.File(path, "r+") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink("other.h5", "X")


def store_out(path: Path) -> None:
    (path.parent / "secret").write_bytes(bytes(480))
    with h5py.File(path, "r+") as file:
        del file["X"]
        file.create_dataset("X", (30, 4), "f4", external=[(str(path.parent / "secret"), 0, 480)])
        file["X"].attrs["encoding-type"], file["X"].attrs["encoding-version"] = "array", "0.2.0"


def swap(data: anndata.AnnData) -> None:
    data.obsm["spatial"] = PLACES[:, ::-1].copy()


def hires_frame(data: anndata.AnnData) -> None:
    add_hires(data, scale=0.05)
    data.obsm["spatial"] = PLACES / 4


def set_column(data: anndata.AnnData, column: str, values: object) -> None:
    data.obs[column] = values


MALFORMED = [
    Malformed("cut-off", "cannot be opened as HDF5", damage=lambda p: p.write_bytes(p.read_bytes()[:5000])),
    Malformed("empty", "cannot be opened as HDF5", damage=lambda p: p.write_bytes(b"")),
    Malformed("text", "cannot be opened as HDF5", damage=lambda p: p.write_text("spot,gene\n")),
    Malformed("no-obs", "no obs found; expected AnnData", damage=in_h5(lambda f: f.pop("obs"))),
    Malformed("no-x", "no X found, nor layers", damage=in_h5(lambda f: f.pop("X"))),
    Malformed("no-positions", "no obsm['spatial'] (obsm holds nothing)", lambda d: d.obsm.pop("spatial")),
    Malformed(
        "positions-of-one-column",
        "obsm['spatial'] is 30 x 1 of type float64; expected two columns",
        lambda d: d.obsm.update(spatial=PLACES[:, :1]),
    ),
    Malformed(
        "positions-missing",
        "no position for 2 spots",
        lambda d: d.obsm.update(spatial=np.where(np.arange(30)[:, None] < 2, np.nan, PLACES)),
    ),
    Malformed(
        "positions-cut-off",
        "obsm['spatial'] has 20 rows",
        damage=in_h5(lambda f: put(f, "obsm/spatial", PLACES[:20])),
    ),
    Malformed(
        "fractional", "X holds 1 value that is no count, first spot 's2', gene 'B': 0.5", in_x([1, 0.5])
    ),
    Malformed("negative", "X holds 1 value that is no count, first spot 's2', gene 'A': -3", in_x([-3])),
    Malformed(
        "no-number", "X holds 1 value that is no count, first spot 's2', gene 'A': nan", in_x([np.nan])
    ),
    Malformed("too-large", "gene 'A': 1e+12; expected whole numbers from 0 to", in_x([1e12])),
    Malformed(
        "counts-nowhere",
        "layers['counts'] held no counts either",
        lambda d: (in_x([0.5])(d), d.layers.update(counts=d.X.copy())),
    ),
    Malformed(
        "duplicated-spot",
        "duplicated spot 's0'",
        damage=in_h5(lambda f: f["obs/_index"].__setitem__(1, "s0")),
    ),
    Malformed(
        "duplicated-gene",
        "duplicated gene 'A'",
        damage=in_h5(lambda f: f["var/_index"].__setitem__(1, "A")),
    ),
    Malformed(
        "not-utf8",
        "var cannot be read",
        damage=in_h5(lambda f: f["var/_index"].__setitem__(1, b"\xff\xfe")),
    ),
    Malformed(
        "label-column-missing",
        "no column 'domain' in obs; found 'label', 'patient', 'array_row' and 1 more",
        files={"label_column": "domain"},
    ),
    Malformed(
        "label-column-that-is-empty",
        "labels no spot",
        lambda d: set_column(d, "label", ""),
    ),
    Malformed("label-file", "label file for an h5ad", files={"labels": Path("labels.csv")}),
    Malformed("swapped", "x of the spots' positions goes with obs['array_row']", swap),
    Malformed(
        "two-spots-at-one-place",
        "1 spot at the array coordinates of another one",
        lambda d: set_column(d, "array_row", np.where(np.arange(30) == 6, 0, ROWS)),
    ),
    Malformed(
        "array-coordinates-that-are-none",
        "are no whole numbers for 30 spots, first 's0'",
        lambda d: set_column(d, "array_row", ROWS + 0.5),
    ),
    Malformed("hires-frame", "all spots in the top left corner of the image of 350 x 300", hires_frame),
    Malformed(
        "positions-outside",
        "obsm['spatial'] times tissue_hires_scalef, 2: 28 of 30 spots outside",
        lambda d: add_hires(d, scale=2.0),
    ),
    Malformed("no-scale", "no usable tissue_hires_scalef", lambda d: add_hires(d, scale=np.nan)),
    Malformed(
        "several-libraries",
        "uns['spatial'] holds 2 libraries: 'library', 'other'",
        lambda d: (add_hires(d), d.uns["spatial"].update(other=d.uns["spatial"]["library"])),
    ),
    Malformed(
        "image-too-large",
        "the hires image in uns['spatial'] declares 300,000 x 300,000 x 3",
        add_hires,
        in_h5(
            lambda f: (
                f.pop("uns/spatial/library/images/hires"),
                f.create_dataset(
                    "uns/spatial/library/images/hires", (300_000, 300_000, 3), "u1", chunks=True
                ),
            )
        ),
    ),
    Malformed("declared-beyond-reason", "declares 100,000,000,000 values", damage=in_h5(bomb)),
    Malformed(
        "shape-that-is-not-the-tables",
        "X declares 30 x 5, with",
        damage=in_h5(lambda f: f["X"].attrs.update(shape=[30, 5])),
    ),
    Malformed(
        "column-that-does-not-exist",
        "X is damaged as a sparse matrix",
        damage=in_h5(lambda f: f["X/indices"].__setitem__(0, 2_000_000)),
    ),
    Malformed("link-to-another-file", "is a link to another file", damage=lead_out),
    Malformed("values-in-another-file", "X is stored in another file", damage=store_out),
    Malformed(
        "inside-itself",
        "goes on inside itself",
        damage=in_h5(lambda f: f["obs"].__setitem__("obs", f["obs"])),
    ),
]


@pytest.mark.parametrize("case", MALFORMED, ids=[case.kind for case in MALFORMED])
def test_malformed(case: Malformed, tmp_path: Path) -> None:
    data = section()
    case.change(data)
    path = written(tmp_path, data)
    case.damage(path)
    (problem,) = problems_of(path, **(case.files or {}))
    assert problem.sample == "A1"
    assert case.finding in problem.message


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    data = section()
    in_x([0.5])(data)
    data.obsm.pop("spatial")
    found = problems_of(written(tmp_path, data), label_column="domain")
    assert [p.message[:12] for p in found] == ["X holds 1 va", "no column 'd", "no obsm['spa"]


def test_listing_tells_names_links_and_images_that_cannot_be(tmp_path: Path) -> None:
    for name in ("A$", "A1"):
        written(tmp_path, section(), name)
    for suffix in ("png", "jpg"):
        (tmp_path / f"A1.{suffix}").write_bytes(b"")
    (tmp_path / "L.h5ad").symlink_to(tmp_path / "L.h5ad")
    with pytest.raises(ProblemsError) as error:
        READER.find(tmp_path)
    assert [(p.place, p.message[:9]) for p in error.value.problems] == [
        ("A$.h5ad", "sample id"),
        ("A1.h5ad", "2 images:"),
        ("L.h5ad", "not a fil"),
    ]


def test_an_empty_image_beside_is_a_problem(tmp_path: Path) -> None:
    path = written(tmp_path, section())
    (tmp_path / "A1.jpg").write_bytes(b"")
    (problem,) = problems_of(path)
    assert problem.place == "A1.jpg"


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_file_cut_off_anywhere_is_told(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), section())
        content = path.read_bytes()
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        assert problems_of(path)


# --- Counts ------------------------------------------------------------------------------------------

ANY_FILES = SectionFiles("A", "A", keys.UNLABELLED, Path(), "h5ad", Path("x"))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2**31 - 1)), max_size=8),
    st.sampled_from(["csr", "csc", "coo"]),
)
def test_counts_stay_what_they_are_in_any_form(entries: list[tuple[int, int, int]], form: str) -> None:
    rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    matrix = csr_matrix((3, 2)).tocoo()
    matrix = type(matrix)(
        (np.array(values, dtype=np.float64), (np.array(rows, int), np.array(columns, int))), (3, 2)
    )
    full = matrix.toarray()
    findings = Findings(ANY_FILES)
    counts = checked_counts(findings, Path("x"), matrix.asformat(form), "abc", "de")
    if full.max(initial=0) < 2**31:
        assert counts is not None and counts.dtype == np.int32 and not findings.problems
        np.testing.assert_array_equal(counts.toarray(), full)
    else:
        assert counts is None and len(findings.problems) == 1


def test_a_large_sparse_section_is_never_made_dense(tmp_path: Path) -> None:
    """Dense it would be 20,000 x 20,000: more than a gigabyte and a half."""
    import tracemalloc

    spots, genes = 20_000, 20_000
    drawn = random_array((spots, genes), density=5e-5, rng=np.random.default_rng(0), format="csr")
    matrix = csr_matrix(drawn)
    matrix.data = np.ceil(matrix.data * 5).astype(np.float32)
    data = anndata.AnnData(
        matrix,
        obs=pd.DataFrame(index=[f"s{i}" for i in range(spots)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(genes)]),
    )
    side = np.arange(spots)
    data.obsm["spatial"] = np.column_stack([side % 200, side // 200]) * 10.0
    path = written(tmp_path, data)
    tracemalloc.start()
    found = read_one(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.counts.sum() == matrix.data.sum()
    assert peak < 100e6
