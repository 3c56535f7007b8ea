"""What the proofs derive from the repository's own files, without the hosts that they make of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]


@pytest.fixture
def cluster_here(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "proofs")])
    import cluster_here

    return cluster_here


def test_only_the_cloud_is_replaced_in_the_clusters_file(cluster_here: Any) -> None:
    given = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    found = cluster_here.here(given, "10.0.0.2", ["10.0.0.3", "10.0.0.4"], "/home/lab/key")
    for section in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands", "file_mounts"):
        assert given[section] and found[section] == given[section]
    assert found["provider"] == {
        "type": "local",
        "head_ip": "10.0.0.2",
        "worker_ips": ["10.0.0.3", "10.0.0.4"],
    }
    assert "docker" not in found
    validate_config(prepare_config(found))


def test_the_head_has_what_the_clusters_file_says(cluster_here: Any) -> None:
    given = {"head_node_type": "h", "available_node_types": {"h": {"resources": {"CPU": 0, "GPU": 0}}}}
    head, worker = cluster_here.resources(given)
    assert head == {"RAY_OVERRIDE_RESOURCES": '{"CPU": 0, "GPU": 0}'}
    assert worker != head
