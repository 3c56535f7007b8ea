from pathlib import Path

import pytest

from senca_ray import keys
from senca_ray.cohort import check_unchanged, fingerprints
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
