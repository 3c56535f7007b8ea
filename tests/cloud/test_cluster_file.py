from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from senca_ray.cloud.cluster_file import read_cluster_file
from senca_ray.errors import ProblemsError, SencaError

AWS: dict[str, Any] = {
    "cluster_name": "c",
    "max_workers": 6,
    "idle_timeout_minutes": 7,
    "provider": {"type": "aws", "region": "eu-west-1"},
    "head_node_type": "head",
    "available_node_types": {
        "head": {
            "resources": {"CPU": 0},
            "labels": {"price-per-hour": "0.19"},
            "node_config": {"InstanceType": "m5.xlarge"},
        },
        "gpu": {
            "resources": {"CPU": 4, "GPU": 1},
            "max_workers": 4,
            "node_config": {
                "InstanceType": "g5.xlarge",
                "InstanceMarketOptions": {"MarketType": "spot"},
            },
        },
    },
    "setup_commands": ["printf 'export %s\\n' SENCA_STORAGE=s3://bucket/lab RAY_AUTH_MODE=token > ~/.env"],
}


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """AWS with values replaced at places such as 'provider.type'."""
    content = copy.deepcopy(AWS)
    for place, value in changes:
        inner = content
        *parents, last = place.split(".")
        for name in parents:
            inner = inner[name]
        inner[last] = value
    return content


def test_machines_prices_and_storage_are_read(tmp_path: Path) -> None:
    found = read_cluster_file(write(tmp_path, AWS))
    assert (found.name, found.provider, found.region, found.max_workers) == ("c", "aws", "eu-west-1", 6)
    assert (found.storage, found.idle_minutes) == ("s3://bucket/lab", 7)
    assert (found.head.instance, found.head.cpus, found.head.price, found.head.spot) == (
        "m5.xlarge",
        0,
        0.19,
        False,
    )
    (gpu,) = found.workers
    assert (gpu.name, gpu.cpus, gpu.gpus, gpu.max_workers, gpu.spot) == ("gpu", 4, 1, 4, True)
    assert gpu.price is None


def test_what_may_be_left_out_has_rays_own_defaults(tmp_path: Path) -> None:
    content = {
        k: v for k, v in AWS.items() if k not in ("max_workers", "idle_timeout_minutes", "setup_commands")
    }
    found = read_cluster_file(write(tmp_path, content))
    assert (found.max_workers, found.idle_minutes, found.storage) == (2, 5, None)


@pytest.mark.parametrize(
    "config", [{"scheduling": {"provisioningModel": "SPOT"}}, {"scheduling": {"preemptible": True}}]
)
def test_spot_machines_of_google_are_told_by_their_scheduling(tmp_path: Path, config: dict[str, Any]) -> None:
    config = {"machineType": "n1-standard-4"} | config
    content = changed(("available_node_types.gpu.node_config", config))
    (gpu,) = read_cluster_file(write(tmp_path, content)).workers
    assert (gpu.instance, gpu.spot) == ("n1-standard-4", True)


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    types = "available_node_types"
    content = changed(
        ("provider", {}),
        ("head_node_type", "boss"),
        ("max_workers", -1),
        ("idle_timeout_minutes", "soon"),
        (f"{types}.gpu.resources", {"CPU": "four", "GPU": True}),
        (f"{types}.gpu.max_workers", 1.5),
        (f"{types}.head.labels", {"price-per-hour": "cheap"}),
    )
    with pytest.raises(ProblemsError) as caught:
        read_cluster_file(write(tmp_path, content))
    assert {problem.place for problem in caught.value.problems} == {
        "provider.type",
        "head_node_type",
        "max_workers",
        "idle_timeout_minutes",
        f"{types}.gpu.resources.CPU",
        f"{types}.gpu.resources.GPU",
        f"{types}.gpu.max_workers",
        f"{types}.head.labels.price-per-hour",
    }


@pytest.mark.parametrize("price", ["-1", "nan", "inf", [1]])
def test_a_price_is_a_number_of_dollars(tmp_path: Path, price: Any) -> None:
    content = changed(("available_node_types.head.labels", {"price-per-hour": price}))
    with pytest.raises(ProblemsError, match="US dollars"):
        read_cluster_file(write(tmp_path, content))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SencaError, match=r"none\.yaml"):
        read_cluster_file(tmp_path / "none.yaml")
