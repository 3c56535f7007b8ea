"""The data plane as a user meets it: a cohort of several formats through the real `senca`, also in S3."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from her2st_folder import counts_file, edit, write_section
from tenx_folder import write_atlas, write_visium, write_visium_hd
from toys import grid
from world import World

from senca_ray import keys

CONFIG = ("--set", "patch_pixels=32", "--set", "min_gene_count=1", "--encoder", "random")


def write_h5ad(path: Path) -> None:
    """One section, its positions in the pixels of the image beside it, which is not there."""
    rng = np.random.default_rng(5)
    xy = grid(6, 5)
    obs = pd.DataFrame({"label": np.where(xy[:, 0] < 3, "cancer", "fat")}, index=[f"s{i}" for i in range(30)])
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(8)])
    data = anndata.AnnData(rng.poisson(4, (30, 8)).astype(np.float32), obs=obs, var=var)
    data.obsm["spatial"] = 50 + 40 * xy
    path.parent.mkdir(parents=True, exist_ok=True)
    data.write_h5ad(path)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Five sections in five formats and the cohort file that lists them."""
    root = tmp_path / "cohort"
    spots = [(int(x) + 2, int(y) + 2) for x, y in grid(6, 4)]
    labels = ["cancer"] * 12 + ["fat"] * 12
    write_section(root / "st", "A1", spots, np.random.default_rng(0).poisson(5, (24, 3)), labels)
    write_visium(root / "visium/V1/outs")
    write_visium_hd(root / "hd/outs")
    write_atlas(root / "atlas")
    write_h5ad(root / "more/X.h5ad")
    (root / "cohort.csv").write_text(
        "sample,path,patient,role\nst,st,P1,\nvisium,visium/V1,P2,\nhd,hd,P3,test\natlas,atlas,P4,\n"
        "x,more/X.h5ad,P5,\n"
    )
    return root


def metas(store: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in store.glob(f"[!.]*/{keys.SHARD_FILE}")]
    return {meta["sample"]: meta for meta in found}


def test_a_cohort_of_five_formats_is_inspected_prepared_and_judged(
    world: World, cohort: Path, tmp_path: Path
) -> None:
    looked = world.run("senca", "inspect", str(cohort))
    assert looked.returncode == 0, looked.stderr
    assert "breast_atlas, h5ad, her2st, visium, visium_hd, 5 sections" in " ".join(looked.stdout.split())

    store = tmp_path / "shards"
    made = world.run("senca", "prepare", str(cohort), "--out", str(store), "--encoder", "random", *CONFIG[:4])
    assert made.returncode == 0, made.stderr
    assert "5 of 5 sections prepared" in made.stdout and "warning" in made.stdout
    found = metas(store)
    assert {sample: (meta["format"], meta["patient"]) for sample, meta in found.items()} == {
        "st": ("her2st", "P1"),
        "visium": ("visium", "P2"),
        "hd": ("visium_hd", "P3"),
        "atlas": ("breast_atlas", "P4"),
        "x": ("h5ad", "P5"),
    }
    assert {meta["role"] for meta in found.values()} == {keys.TUNING, keys.TEST}
    assert [found[s]["spot_distance_um"] for s in ("st", "visium", "hd", "x")] == [200.0, 100.0, 8.0, None]
    assert all(found[s]["modality"] == keys.RNA_IMAGE for s in ("st", "visium", "hd", "atlas"))

    judged = world.run("senca", "quality", str(store), "--out", str(tmp_path / "quality"))
    assert judged.returncode == 0, judged.stderr
    table = pd.read_csv(tmp_path / "quality/quality.csv")
    assert sorted(table[keys.SAMPLE]) == ["atlas", "hd", "st", "visium", "x"] and table["measured"].all()


def test_every_problem_of_every_format_at_once_and_nothing_half_written(
    world: World, cohort: Path, tmp_path: Path
) -> None:
    edit(counts_file(cohort / "st", "A1"), "2x2\t", "2x2\t-")
    (cohort / "visium/V1/outs/spatial/scalefactors_json.json").write_text("{}")
    (cohort / "more/X.h5ad").write_bytes(b"\x89HDF\r\n\x1a\n cut off")
    store = tmp_path / "shards"
    made = world.run("senca", "prepare", str(cohort), "--out", str(store), *CONFIG)
    assert made.returncode == 2 and "Traceback" not in made.stderr
    assert "problems in 5 sections (2 without problems are prepared and kept)" in made.stderr
    for sample, place in (("st", "A1.tsv.gz"), ("visium", "scalefactors_json.json"), ("x", "X.h5ad")):
        line = next(line for line in made.stderr.splitlines() if line.split()[:1] == [sample])
        assert place in line
    assert sorted(metas(store)) == ["atlas", "hd"]
    assert not [path for path in store.iterdir() if path.name.endswith(".partial")]


def test_from_s3_to_s3_and_a_study_on_it(
    world: World,
    cohort: Path,
    tmp_path: Path,
    bucket: str,
    s3: object,
    credentials: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = cohort / "st"
    for path in sorted(p for p in raw.rglob("*") if p.is_file()):
        s3.upload_file(str(path), bucket, f"raw/{path.relative_to(raw).as_posix()}")  # type: ignore[attr-defined]
    # Ray's workers are started with these, too.
    place = World(tmp_path, Path(os.environ["SENCA_CACHE"]), "disabled")
    data, store = f"s3://{bucket}/raw", f"s3://{bucket}/shards"
    options = (
        "--data",
        data,
        "--shards",
        store,
        *CONFIG,
        "--set",
        "hvgs=3",
        "--seeds",
        "1",
        "--set",
        "epochs=1",
    )
    ran = place.experiment("sweep_neighbors", *options, "--values", "4,8", "--out", str(tmp_path / "study"))
    assert ran.returncode == 0, ran.stderr
    results = pd.read_parquet(tmp_path / "study" / keys.RESULTS_FILE)
    assert (results[keys.STATUS] == keys.OK).all() and set(results[keys.SAMPLE]) == {"A1"}
    again = place.run("senca", "prepare", data, "--out", store, *CONFIG)
    assert again.returncode == 0 and "all 1 sections were prepared before" in again.stdout
    looked = place.run("senca", "inspect", store)
    assert looked.returncode == 0 and "1 shard" in looked.stdout
