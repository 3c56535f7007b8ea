import dataclasses
from pathlib import Path

import pytest
from toys import toy_content, toy_section

from senca_ray import keys
from senca_ray.cohort import check_unchanged, fingerprints, simulated
from senca_ray.data.shards import write_shard
from senca_ray.errors import ProblemsError


def test_shards_as_a_study_began_with_them_pass(toy_shard: str) -> None:
    shards = {"T1": toy_shard}
    check_unchanged(shards, fingerprints(shards))
    check_unchanged(shards, {})  # a study of the first schema remembers none


def test_every_changed_shard_is_named_at_once(toy_shard: str, tmp_path: Path) -> None:
    shards = {"T1": toy_shard, "T2": str(tmp_path / "gone"), "T3": toy_shard}
    genes = Path(toy_shard) / keys.GENES_FILE
    genes.write_bytes(genes.read_bytes() + b"x")
    with pytest.raises(ProblemsError) as caught:
        check_unchanged(shards, fingerprints({"T1": toy_shard}) | {"T3": "another"})
    found = [(p.sample, p.message.split()[0]) for p in caught.value.problems]
    assert found == [("T1", "missing"), ("T2", f"{tmp_path}/gone:"), ("T3", "fingerprint"), ("T3", "missing")]


@pytest.mark.parametrize("label_source", [keys.SIMULATED, keys.UNLABELLED])
def test_a_section_that_a_computer_made_is_simulated_with_labels_or_without(
    label_source: str, tmp_path: Path
) -> None:
    section = toy_section(tmp_path / "raw")
    for made, folder in ((True, "made"), (False, "cut")):
        files = dataclasses.replace(section.files, label_source=label_source, simulated=made)
        content = toy_content(dataclasses.replace(section, files=files))
        shards = {"T1": str(write_shard(tmp_path / folder, content))}
        assert simulated(shards) == (made or label_source == keys.SIMULATED)
