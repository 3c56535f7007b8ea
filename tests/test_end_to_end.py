"""The product as a user meets it: `make sweep`, the `senca` command, the README, a real local Ray."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from her2st_folder import append, counts_file, edit, label_file, spot_file, write_section
from world import BIN, HIDDEN, ROOT, World, experiment, results_of

from senca_ray import keys

TRIALS = 6 * (3 + 4)
"""Sections x (values + controls) of the embedded cohort."""


@pytest.fixture(scope="module")
def study(world: World) -> tuple[Path, str]:
    """`make sweep`, once; the environment is the one that these tests run in."""
    out = world.home / "study"
    made = world.run("make", "sweep", "-o", ".venv/installed", f"BIN={BIN}", f"OUT={out}", cwd=ROOT)
    assert made.returncode == 0, made.stderr
    return out, made.stdout


def shard_of(world: World, sample: str) -> Path:
    return next((world.cache / "shards").glob(f"{sample}-*"))


def test_make_sweep_ends_with_the_table_and_where_the_page_is(study: tuple[Path, str]) -> None:
    out, text = study
    # Fewer than six, or none, where other tests have prepared some of them.
    assert re.search(r"([1-6] of|all) 6 sections (were )?prepared", text)
    assert "simulated, with image: 6 sections of 3 patients, 5 seeds (0 to 4)" in text
    assert "k policy labels (oracle" in text
    for row in ("neighbors=4", "neighbors=8", "neighbors=16", "untrained", "smoothed-pca", "coordinates"):
        assert row in text
    assert str(out / keys.REPORT_FILE) in text
    assert "says nothing about tissue" in text or "say nothing about tissue" in text


def test_every_value_sample_and_seed_is_a_row(study: tuple[Path, str]) -> None:
    results = results_of(study[0])
    assert (results[keys.STATUS] == keys.OK).all()
    model = results[results[keys.METHOD] == "senca"]
    assert (model[keys.SEED] >= 0).sum() == 3 * 6 * 5
    assert (model[keys.SEED] == keys.ALL_SEEDS).sum() == 3 * 6  # the consensus of each trial
    assert set(model[keys.SETTING]) == {"neighbors=4", "neighbors=8", "neighbors=16"}
    assert not results.duplicated(list(keys.ROW_KEY)).any()
    assert model[keys.ARI].between(-1, 1).all() and model[keys.ARI].std() > 0
    assert set(results[keys.ENCODER]) == {"efficientnet-lite0 (ImageNet, packaged)"}
    assert set(results[keys.K]) == {6}


def test_the_page_is_whole_and_needs_no_network(study: tuple[Path, str]) -> None:
    page = (study[0] / keys.REPORT_FILE).read_text(encoding="utf-8")
    assert "SIMULATED" in page.upper()
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)
    assert all(sample in page for sample in ("A1", "A2", "B1", "B2", "C1", "C2"))
    assert len(page) < 10_000_000


def test_the_wandb_run_is_kept_offline(study: tuple[Path, str]) -> None:
    assert list((study[0] / "wandb").glob("offline-run-*"))


def test_running_it_again_runs_nothing_and_says_so(world: World, study: tuple[Path, str]) -> None:
    out, _ = study
    before = results_of(out)
    again = world.experiment("sweep_neighbors", "--out", str(out))
    assert again.returncode == 0, again.stderr
    assert "all 6 sections were prepared before" in again.stdout
    assert f"all {TRIALS} trials were finished before" in again.stdout
    pd.testing.assert_frame_equal(before, results_of(out))


def test_another_study_in_the_same_folder_is_refused(world: World, study: tuple[Path, str]) -> None:
    out, _ = study
    before = (out / keys.RESULTS_FILE).read_bytes()
    refused = world.experiment("sweep_neighbors", "--out", str(out), "--set", "epochs=3")
    assert refused.returncode == 2
    assert "holds another study (it differs in setting)" in refused.stderr
    assert (out / keys.RESULTS_FILE).read_bytes() == before


def test_a_trial_that_fails_is_in_the_table_with_its_reason(world: World, study: tuple[Path, str]) -> None:
    shards = world.home / "damaged"
    shutil.copytree(world.cache / "shards", shards, ignore=HIDDEN)
    next(shards.glob("B1-*/genes.parquet")).write_bytes(b"not parquet")
    out = world.home / "with-failures"
    samples = ["--sample", "A1", "--sample", "B1", "--values", "4,8", "--seeds", "2"]
    ran = world.experiment("sweep_neighbors", "--shards", str(shards), *samples, "--out", str(out))
    assert ran.returncode == 0, ran.stderr
    assert "failed" in ran.stdout
    results = results_of(out).set_index(keys.SAMPLE)
    assert (results.loc["A1", keys.STATUS] == keys.OK).all()
    assert (results.loc["B1", keys.STATUS] == keys.FAILED).all()
    assert results.loc["B1", keys.REASON].str.contains("(?i)parquet").all()
    assert "not a parquet" in (out / keys.REPORT_FILE).read_text().lower()


def test_fit_writes_an_h5ad_that_scanpy_opens(world: World, study: tuple[Path, str]) -> None:
    out = world.home / "A1.h5ad"
    pair = ("--pair", "invasive cancer", "cancer in situ")
    fitted = world.run("senca", "fit", str(shard_of(world, "A1")), *pair, "--out", str(out))
    assert fitted.returncode == 0, fitted.stderr
    data = anndata.read_h5ad(out)
    scores = json.loads(data.uns["senca"]["scores"])
    assert data.obsm[keys.OBSM_SENCA].shape == (data.n_obs, 64)
    assert data.obs[keys.OBS_REGION].nunique() == 6
    assert -1 <= scores[keys.PAIR_AMI] <= 1
    results = results_of(study[0])
    row = results.query("method == 'senca' and setting == 'neighbors=4' and sample == 'A1' and seed == 0")
    assert scores[keys.ARI] == row[keys.ARI].item(), "a fit and a trial of the same setting and seed differ"
    assert f"ARI {scores[keys.ARI]:.3f}" in fitted.stdout


def test_patches_are_kept_when_asked_for_and_a_weights_file_is_used(world: World, tmp_path: Path) -> None:
    import torch

    from senca_ray.model.encoders.torchvision_models import torchvision_models

    weights = tmp_path / "weights.pth"
    torch.save(torchvision_models().resnet18(weights=None).state_dict(), weights)
    cohort = broken_free_cohort(tmp_path / "cohort")
    options = (
        "--patches",
        "--encoder",
        "resnet18",
        "--encoder-weights",
        str(weights),
        "--set",
        "patch_pixels=32",
    )
    made = world.run("senca", "prepare", str(cohort), "--out", str(tmp_path / "shards"), *options)
    assert made.returncode == 0, made.stderr
    shard = next((tmp_path / "shards").glob("A1-*"))
    spots = pd.read_parquet(shard / keys.SPOTS_FILE)
    assert len(spots["patch"].iloc[0]) == 32 * 32 * 3
    assert len(spots["image_features"].iloc[0]) == 512
    assert "sha256:" in json.loads((shard / keys.SHARD_FILE).read_text())["encoder"]


def broken_free_cohort(root: Path, *samples: str) -> Path:
    """Two tiny valid sections on a 6 x 5 grid."""
    rng = np.random.default_rng(0)
    spots = [(x, y) for y in range(5) for x in range(6)]
    genes = [f"G{i}" for i in range(40)]
    for sample in samples or ("A1", "B1"):
        labels = ["invasive cancer" if x < 3 else "connective tissue" for x, _ in spots]
        write_section(root, sample, spots, rng.poisson(3, (30, 40)), labels, genes)
    return root


def test_every_problem_of_every_section_at_once_and_no_partial_shard(world: World, tmp_path: Path) -> None:
    cohort = broken_free_cohort(tmp_path / "cohort", "A1", "B1", "C1")
    edit(counts_file(cohort, "A1"), "0x0\t", "0x0\t-")
    append(spot_file(cohort, "A1"), "1\t1\t1.1\t0.9\t10.5\t10.5\t1")
    counts_file(cohort, "B1").write_bytes(counts_file(cohort, "B1").read_bytes()[:60])
    store = tmp_path / "shards"
    refused = world.run("senca", "prepare", str(cohort), "--out", str(store), "--encoder", "random")
    assert refused.returncode == 2
    for expected in (
        "3 problems in 3 sections",
        "A1  ST-cnts/A1.tsv.gz",
        "A1  ST-spotfiles/A1_selection.tsv",
        "B1  ST-cnts/B1.tsv.gz",
    ):
        assert expected in refused.stderr
    assert "Traceback" not in refused.stderr
    assert sorted(p.name.split("-")[0] for p in store.iterdir()) == ["C1", keys.MANIFEST_FILE]
    inspected = world.run("senca", "inspect", str(cohort))
    assert inspected.returncode == 2 and "3 problems" in inspected.stderr


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("senca inspect COHORT --format slideseq", "slideseq"),
        ("senca inspect EMPTY", "her2st"),
        ("senca prepare COHORT --sample Z9 --out OUT", "no sample Z9; found A1, B1"),
        ("senca prepare COHORT --out FILE", "cannot be created"),
        ("senca prepare COHORT --out OUT --encoder vgg", "encoder 'vgg' is unknown"),
        ("senca prepare COHORT --out OUT --set max_image_pixels=100", "120 x 90 pixels"),
        ("senca prepare COHORT --out OUT --set max_neighbors=30", "30 spots found"),
        ("senca prepare COHORT --out OUT --set min_gene_count=9999", "0 of 40 genes"),
        ("senca prepare COHORT --set nonsense=1", "nonsense=1"),
        ("senca fit EMPTY", "not a shard"),
        ("senca resume EMPTY", "not a study"),
        ("senca simulate COHORT", "COHORT"),
        ("sweep --data COHORT --out FULL", "not empty and not a study"),
        ("sweep --values 8,16", "4 is not among [8, 16]"),
        ("sweep --values four", "expected int values"),
        ("sweep --k many", "fixed:N"),
        ("sweep --clustering louvain", "louvain"),
        ("sweep --set dropout=2 --set epochs=0", "dropout"),
        ("sweep --data COHORT --set hvgs=500 --encoder random --out OUT", "the shard holds 40"),
        ("sweep --config FILE", "FILE"),
    ],
)
def test_what_a_user_can_fix_is_told_in_words_with_exit_code_2(
    world: World, tmp_path: Path, command: str, expected: str
) -> None:
    names = {"COHORT": broken_free_cohort(tmp_path / "cohort"), "EMPTY": tmp_path / "empty"}
    names |= {"FILE": tmp_path / "file", "OUT": tmp_path / "out", "FULL": tmp_path / "full"}
    names["EMPTY"].mkdir()
    names["FILE"].write_text("- not a mapping")
    names["FULL"].mkdir()
    (names["FULL"] / "thesis.docx").write_text("mine")
    words = [str(names.get(word, word)) for word in command.split()]
    if words[0] == "sweep":
        words[:1] = [*experiment("sweep_neighbors"), "--shards", str(tmp_path / "s")]
    refused = world.run(*words)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert str(names.get(expected, expected)) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not names["OUT"].exists() or not [p for p in names["OUT"].iterdir() if p.name.startswith(".")]
    assert (names["FULL"] / "thesis.docx").read_text() == "mine"


def test_a_cohort_without_labels(world: World, tmp_path: Path) -> None:
    """Refused under the policy 'labels' before anything is prepared; run to the end under another."""
    cohort = broken_free_cohort(tmp_path / "cohort")
    label_file(cohort, "B1").unlink()
    store = ("--shards", str(tmp_path / "shards"), "--encoder", "random", "--set", "patch_pixels=32")
    options = ("--data", str(cohort), *store, "--set", "hvgs=30", "--seeds", "2", "--values", "4,8")
    refused = world.experiment("sweep_neighbors", *options, "--out", str(tmp_path / "study"))
    assert refused.returncode == 2
    assert "1 of 2 sections have no labels (B1)" in refused.stderr and "--sample A1" in refused.stderr
    assert not (tmp_path / "shards").exists()

    label_file(cohort, "A1").unlink()
    ran = world.experiment("sweep_neighbors", *options, "--k", "fixed:3", "--out", str(tmp_path / "study"))
    assert ran.returncode == 0, ran.stderr
    results = results_of(tmp_path / "study")
    assert (results[keys.STATUS] == keys.OK).all() and results[keys.ARI].isna().all()
    single = results[results[keys.SEED] >= 0]  # a consensus has no embedding to take a silhouette in
    assert single[keys.SILHOUETTE].notna().all() and set(results[keys.K]) == {3}
    assert (tmp_path / "study" / keys.REPORT_FILE).exists()


def test_every_command_of_the_readme_runs(world: World, study: tuple[Path, str], tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    commands = [
        line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()
    ]
    commands += re.findall(r"`(python experiments/[^`]+)`", text)
    assert len(commands) >= 11
    # The README's own simulated cohort is the embedded one, prepared by the study before.
    shutil.copytree(world.cache / "shards", tmp_path / "my-shards", ignore=HIDDEN)
    for name in ("experiments", "configs", "cluster.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    without_wandb = dataclasses.replace(world, wandb="disabled")  # its runs are looked at elsewhere
    for command in commands:
        if command.startswith("make "):
            # `make sweep` is the fixture; `make test` is what runs this test.
            assert world.run("make", "-n", command.split()[1], cwd=ROOT).returncode == 0
            continue
        ran = without_wandb.run("bash", "-c", command, cwd=tmp_path)
        assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    assert (tmp_path / "A1.h5ad").exists() and (tmp_path / "my-study" / keys.REPORT_FILE).exists()


def test_the_configs_are_valid_and_say_what_the_paper_says() -> None:
    from senca_ray.config import Setting
    from senca_ray.options import configs

    read = {path.stem: configs(path, None) for path in sorted((ROOT / "configs").glob("*.yaml"))}
    assert read["her2st"].setting == Setting()
    assert read["her2st_literal"].setting.target == "literal"
    breast = read["visium_breast"].setting
    assert (breast.hvgs, breast.hidden, breast.embedding, breast.epochs) == (1000, 512, 256, 40)
    assert configs(ROOT / "configs/visium_breast.yaml", ["epochs=7"]).setting.epochs == 7


def test_importing_the_package_is_light_and_fits_need_no_ray() -> None:
    heavy = "{'ray', 'torch', 'scanpy', 'anndata', 'pandas', 'wandb', 'matplotlib'}"
    light = f"import sys, senca_ray, senca_ray.cli; print({heavy} & set(sys.modules))"
    absent = "{'ray', 'scanpy', 'anndata', 'pydantic', 'wandb'}"
    fit = (
        "import senca_ray.fit.train, senca_ray.methods.run, senca_ray.data.shards, senca_ray.study.run_trial"
    )
    bare = f"import sys; {fit}; print({absent} & set(sys.modules))"
    for code in (light, bare):
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == "set()"
