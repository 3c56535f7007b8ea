"""cluster.yaml against Ray's own schema check, which needs no cloud."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parents[1] / "cluster.yaml"


def load() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text())


def test_cluster_yaml_passes_rays_schema_check() -> None:
    validate_config(prepare_config(load()))


def test_the_check_would_see_a_wrong_key() -> None:
    with pytest.raises(Exception, match="workers_max"):
        validate_config(prepare_config(load() | {"workers_max": 3}))


def test_the_dashboard_stays_on_loopback_and_mounts_exist() -> None:
    config = load()
    assert any("--dashboard-host=127.0.0.1" in c for c in config["head_start_ray_commands"])
    assert all((CLUSTER.parent / source).exists() for source in config["file_mounts"].values())
