import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import toy_content, toy_section

from senca_ray import keys
from senca_ray.data import shards
from senca_ray.data.shards import damaged_files, read_display, read_meta, read_sample, write_shard
from senca_ray.errors import SencaError


def write(folder: Path, store: Path, **changes: int) -> Path:
    return write_shard(store, toy_content(toy_section(folder), **changes))


def test_a_shard_written_twice_is_identical(tmp_path: Path) -> None:
    first = write(tmp_path / "raw", tmp_path / "a")
    second = write(tmp_path / "raw", tmp_path / "b")
    assert first.name == second.name
    names = sorted(p.name for p in first.iterdir())
    assert names == sorted(p.name for p in second.iterdir())
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    section = toy_section(tmp_path)
    content = toy_content(section)
    sample = read_sample(str(write_shard(tmp_path / "s", content)), genes=10_000)
    np.testing.assert_array_equal(sample.counts.toarray(), content.counts.toarray())
    np.testing.assert_array_equal(sample.xy, section.xy)
    np.testing.assert_array_equal(sample.neighbors, content.neighbors)
    np.testing.assert_array_equal(sample.total_counts, content.counts.toarray().sum(axis=1))
    assert sample.genes == content.genes
    assert sample.labels is not None and tuple(sample.labels) == section.labels
    assert sample.image_features is None and sample.modality == keys.RNA


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(genes=st.integers(1, 60), neighbors=st.integers(1, 16), seed=st.integers(0, 3))
def test_a_prefix_equals_preparing_for_just_that(
    tmp_path: Path, genes: int, neighbors: int, seed: int
) -> None:
    """Genes and neighbours of a full shard, cut, are those of a shard that never held more."""
    section = toy_section(tmp_path / f"raw{seed}", seed=seed)
    full = read_sample(str(write_shard(tmp_path / "s", toy_content(section))), 10_000)
    part = read_sample(
        str(write_shard(tmp_path / "s", toy_content(section, max_neighbors=10))),
        genes,
    )
    held = min(genes, len(full.genes))
    assert part.genes == full.genes[:held]
    np.testing.assert_array_equal(part.expression(held), full.expression(held))
    kept = min(neighbors, 10)
    np.testing.assert_array_equal(part.nearest(kept), full.nearest(kept))


def test_a_prefix_reads_few_row_groups(tmp_path: Path) -> None:
    section = toy_section(tmp_path, genes=700)
    shard = write_shard(tmp_path / "s", toy_content(section))
    sample = read_sample(str(shard), 300)
    assert len(sample.genes) == 300 == sample.counts.shape[1]
    with pytest.raises(SencaError, match="500 HVGs asked for, 300 genes"):
        sample.expression(500)


def test_too_many_neighbours_name_the_fix(tmp_path: Path) -> None:
    sample = read_sample(str(write(tmp_path / "raw", tmp_path / "s")), 10)
    with pytest.raises(SencaError, match="larger max_neighbors"):
        sample.nearest(17)


def test_not_a_shard_and_another_version(tmp_path: Path) -> None:
    with pytest.raises(SencaError, match="not a shard"):
        read_meta(str(tmp_path))
    (tmp_path / keys.SHARD_FILE).write_text('{"schema": 0}')
    with pytest.raises(SencaError, match=r"another version.*senca prepare"):
        read_meta(str(tmp_path))


def test_damage_is_seen(tmp_path: Path) -> None:
    shard = write(tmp_path / "raw", tmp_path / "s")
    assert damaged_files(shard) == []
    (shard / keys.GENES_FILE).write_bytes(b"changed")
    (shard / keys.SPOTS_FILE).unlink()
    assert damaged_files(shard) == [keys.GENES_FILE, keys.SPOTS_FILE]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.pq, "write_table", full)
    with pytest.raises(SencaError, match=r"No space left on device.*free some space"):
        write(tmp_path / "raw", tmp_path / "s")
    assert list((tmp_path / "s").iterdir()) == []


def test_display_of_a_section_without_image(tmp_path: Path) -> None:
    display = read_display(str(write(tmp_path / "raw", tmp_path / "s")))
    assert display.thumbnail is None and display.thumbnail_xy is None
    assert display.labels is not None and len(display.labels) == len(display.xy) == 48
    assert display.spots[:2] == toy_section(tmp_path / "raw").spots[:2] and len(set(display.spots)) == 48


def write_encoders(folder: Path, names: list[str]) -> Path:
    """A shard with features of several encoders, each all of one number: its place."""
    content = toy_content(toy_section(folder / "raw"))
    features = {name: np.full((48, 3 + i), float(i), dtype=np.float32) for i, name in enumerate(names)}
    encoders = [
        {"asked": name, "name": f"{name} (made up)", "key": f"{i:064x}"} for i, name in enumerate(names)
    ]
    about = {"modality": keys.RNA_IMAGE, "encoder": f"{names[0]} (made up)", "encoders": encoders}
    first, *others = names
    content = dataclasses.replace(
        content,
        meta=content.meta | about,
        image_features=features[first],
        more_features={name: features[name] for name in others},
    )
    return write_shard(folder / "s", content)


def test_encoders_lie_side_by_side_whatever_they_are_called(tmp_path: Path) -> None:
    """Names hold dots and colons, and one may begin as another does."""
    names = ["timm:vit", "timm:vit.a1_in1k", "resnet18", "timm:vit.a1_in1k.b", "image_features"]
    shard = str(write_encoders(tmp_path, names))
    for place, name in enumerate(names):
        for asked in (name, f"{name} (made up)"):
            sample = read_sample(shard, 5, asked)
            assert sample.encoder == f"{name} (made up)" and sample.image_features is not None
            assert sample.image_features.shape == (48, 3 + place) and (sample.image_features == place).all()
    assert read_sample(shard, 5).encoder == "timm:vit (made up)"
    with pytest.raises(
        SencaError, match="no features of encoder 'resnet50' in its shard; it has those of timm:vit, "
    ):
        read_sample(shard, 5, "resnet50")


def test_only_the_features_asked_for_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = str(write_encoders(tmp_path, ["a", "b"]))
    read_table, columns = shards.pq.read_table, []

    def watched(*args: object, **kwargs: object) -> object:
        table = read_table(*args, **kwargs)
        columns.append({name for name in table.column_names if name.startswith("image_features")})
        return table

    monkeypatch.setattr(shards.pq, "read_table", watched)
    for name in ("", "b"):
        read_sample(shard, 5, name)
    assert columns == [{"image_features"}, {"image_features.b"}]


def with_patches(shard: Path, store: Path) -> tuple[str, np.ndarray]:
    """A second shard of the section of `write_encoders`, with its patches, and these."""
    content = toy_content(toy_section(shard.parent / "raw"))
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (48, 8, 8, 3)).astype(np.uint8)
    about = {name: read_meta(str(shard))[name] for name in ("modality", "encoder", "encoders")}
    features = np.zeros((48, 3), dtype=np.float32)
    content = dataclasses.replace(
        content,
        meta=content.meta | about,
        image_features=features,
        more_features={"b": features},
        patches=patches,
    )
    return str(write_shard(store, content)), patches


def test_patches_are_read_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_PATCHES_AT_ONCE", 7)
    without = write_encoders(tmp_path, ["a", "b"])
    shard, patches = with_patches(without, tmp_path / "with")
    sample = read_sample(shard, 5, "b", patches=True)
    assert sample.patches is not None and sample.patches.dtype == np.uint8
    np.testing.assert_array_equal(sample.patches, patches)
    assert (sample.encoder, sample.encoder_asked) == ("b (made up)", "b")
    assert read_sample(shard, 5, "a (made up)").encoder_asked == "a"
    assert read_sample(shard, 5).patches is None
    with pytest.raises(SencaError, match=r"T1: no patches in its shard.*senca prepare DATA --patches"):
        read_sample(str(without), 5, patches=True)


def test_a_section_without_image_has_no_patches_to_ask_for(tmp_path: Path) -> None:
    sample = read_sample(str(write(tmp_path / "raw", tmp_path / "s")), 5, patches=True)
    assert sample.patches is None and sample.encoder_asked == ""
