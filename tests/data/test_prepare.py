"""`prepare` through a real local Ray Data, on tiny sections."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from her2st_folder import append, counts_file, edit, write_section
from toys import grid

from senca_ray import keys
from senca_ray.config import PrepareConfig
from senca_ray.data.inspection import inspect
from senca_ray.data.prepare import find_sections, prepare
from senca_ray.data.shards import read_meta, read_sample, sha256
from senca_ray.data.stages import Recipe, Todo, encode_and_write, fingerprint, read_section
from senca_ray.errors import ProblemsError, SencaError

pytestmark = pytest.mark.usefixtures("local_ray")

CONFIG = PrepareConfig(encoders=("random",), patch_pixels=32)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    spots = [(x, y) for y in range(5) for x in range(6)]
    labels = ["invasive cancer" if x < 3 else "connective tissue" for x, _ in spots]
    for sample, image in (("A1", True), ("B1", False)):
        genes = [f"G{i}" for i in range(40)]
        write_section(tmp_path / "raw", sample, spots, rng.poisson(3, (30, 40)), labels, genes, image=image)
    return tmp_path / "raw"


def test_prepared_once_and_a_second_call_does_nothing(cohort: Path, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    first = prepare(cohort, tmp_path / "s", config=CONFIG, progress=lambda *x: said.append(x))
    assert sorted(first.new) == ["A1", "B1"] and said[0] == ("", 0, 2) and said[-1][1:] == (2, 2)
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "s").rglob("*")}
    second = prepare(cohort, tmp_path / "s", config=CONFIG)
    assert second.new == () and second.shards == first.shards
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "s").rglob("*")} == written

    with_image, without = (read_sample(first.shards[s], 40) for s in ("A1", "B1"))
    assert with_image.image_features is not None and with_image.image_features.shape == (30, 512)
    assert without.image_features is None and without.encoder == "none"
    assert "random" in with_image.encoder
    manifest = json.loads((tmp_path / "s" / keys.MANIFEST_FILE).read_text())
    assert manifest == {Path(f).name: sha256(Path(f) / keys.SHARD_FILE) for f in first.shards.values()}


def test_a_changed_file_makes_a_new_shard_of_its_section_only(cohort: Path, tmp_path: Path) -> None:
    before = prepare(cohort, tmp_path / "s", config=CONFIG).shards
    append(counts_file(cohort, "B1"), row(9, 9))
    after = prepare(cohort, tmp_path / "s", config=CONFIG)
    assert after.new == ("B1",)
    assert after.shards["A1"] == before["A1"] and after.shards["B1"] != before["B1"]
    assert read_meta(after.shards["B1"])["spots"] == 31


def row(x: int, y: int) -> str:
    return "\t".join([f"{x}x{y}", *["1"] * 40])


def test_the_fingerprint_knows_the_config_and_the_weights(cohort: Path, tmp_path: Path) -> None:
    section, _ = find_sections(cohort, None)
    weights = tmp_path / "weights"
    prints = set()
    for config in (CONFIG, PrepareConfig(encoders=("random",), patch_radius=0.5)):
        prints.add(fingerprint(section, Recipe(config, None, "a")))
        assert fingerprint(section, Recipe(config, None, "b")) in prints  # the store is no matter
        for content in ("one", "two"):
            weights.write_text(content)
            prints.add(fingerprint(section, Recipe(config, {"random": str(weights)}, "a")))
    assert len(prints) == 6


def test_a_bad_section_leaves_no_shard_and_the_others_are_kept(cohort: Path, tmp_path: Path) -> None:
    edit(counts_file(cohort, "A1"), "0x0\t", "0x0\t-")
    with pytest.raises(
        ProblemsError, match=r"1 problem in 2 sections \(1 without problems are prepared and kept\)"
    ):
        prepare(cohort, tmp_path / "s", config=CONFIG)
    folders = [p for p in (tmp_path / "s").iterdir() if p.is_dir()]
    assert [p.name.split("-")[0] for p in folders] == ["B1"]
    assert list(json.loads((tmp_path / "s" / keys.MANIFEST_FILE).read_text())) == [folders[0].name]


def test_inspect_tells_a_changed_shard(cohort: Path, tmp_path: Path) -> None:
    shards = prepare(cohort, tmp_path / "s", config=CONFIG).shards
    assert inspect(tmp_path / "s")[2] == []
    (Path(shards["A1"]) / keys.SPOTS_FILE).unlink()
    path = Path(shards["B1"]) / keys.SHARD_FILE
    path.write_text(path.read_text().replace('"B1"', '"B2"'))
    found = {(p.sample, p.place.split("/")[1]) for p in inspect(tmp_path / "s")[2]}
    assert found == {("A1", keys.SPOTS_FILE), ("B2", keys.SHARD_FILE)}


def test_weights_that_are_not_there(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(SencaError, match=r"--encoder-weights: .*nothing: no such file"):
        prepare(cohort, tmp_path / "s", config=CONFIG, weights={"random": tmp_path / "nothing"})


def test_a_manifest_that_cannot_be_written_is_told_in_words(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    shards = prepare(cohort, tmp_path / "s", config=CONFIG).shards
    (tmp_path / "s" / keys.MANIFEST_FILE).unlink()
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SencaError, match=r"manifest\.json: cannot be written"):
        prepare(cohort, tmp_path / "s", config=CONFIG)
    assert all(Path(shard).is_dir() for shard in shards.values())


def test_images_can_be_left_unread(cohort: Path, tmp_path: Path) -> None:
    first = sorted(prepare(cohort, tmp_path / "s", config=PrepareConfig(read_images=False)).shards.items())[0]
    sample = read_sample(first[1], 10)
    assert sample.image_features is None and sample.modality == keys.RNA and sample.labels is not None


def many(root: Path, broken: set[int], sections: int = 30) -> Path:
    """Sections without image; the counts of the broken ones are no numbers."""
    rng = np.random.default_rng(0)
    spots = [(int(x), int(y)) for x, y in grid(5, 4)]
    for number in range(sections):
        name = f"A{number}"
        write_section(root, name, spots, rng.poisson(9, (20, 3)), ["fat"] * 20, image=False)
        if number in broken:
            edit(counts_file(root, name), "0x0\t", "0x0\t-")
    return root


@pytest.mark.parametrize(("strict", "told"), [(True, 1), (False, 2)])
def test_strict_ends_at_the_first_problem(tmp_path: Path, strict: bool, told: int) -> None:
    cohort, store = many(tmp_path / "many", {0, 29}), tmp_path / "s"
    with pytest.raises(ProblemsError) as error:
        prepare(cohort, store, config=PrepareConfig(min_gene_count=1), strict=strict)
    assert len(error.value.problems) == told
    assert strict or len([p for p in store.iterdir() if p.is_dir()]) == 28


def test_whatever_fails_in_one_section_is_told_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_one(row: dict[str, Any], todo: Any, recipe: Any) -> dict[str, Any]:
        """Takes its worker down for one section, as a lack of memory would."""
        from senca_ray.data.stages import read_section

        if todo[row["item"]].files.sample == "A1":
            os._exit(1)
        return read_section(row, todo, recipe)

    cohort, store = many(tmp_path / "many", set(), 4), tmp_path / "s"
    monkeypatch.setattr("senca_ray.data.prepare.read_section", lose_one)
    with pytest.raises(ProblemsError, match=r"1 problem.*(?s:.)*A1  .*its worker was lost"):
        prepare(cohort, store, config=PrepareConfig(min_gene_count=1))
    assert len([p for p in store.iterdir() if p.is_dir()]) == 3


def test_an_error_nobody_foresaw_is_one_section_s_problem(
    cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, files: object, max_image_pixels: int) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("senca_ray.data.readers.her2st.Her2stReader.read", fail)
    todo = [Todo(files, "0") for files in find_sections(cohort, None)]
    row = encode_and_write(
        read_section({"item": 0}, todo, Recipe(CONFIG, None, "s")), Recipe(CONFIG, None, "s")
    )
    ((sample, _, message),) = json.loads(row["problems"])
    assert sample == "A1" and "RuntimeError: a bug" in message
