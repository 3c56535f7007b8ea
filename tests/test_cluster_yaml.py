"""cluster.yaml and deploy/gcp.yaml against Ray's own schema check, and what that check does not see."""

import fnmatch
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.node_provider_availability_tracker import NodeProviderAvailabilityTracker
from ray.autoscaler._private.resource_demand_scheduler import get_nodes_for
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.node_launch_exception import NodeLaunchException

from senca_ray.cloud.cluster_file import read_cluster_file
from senca_ray.cloud.machines import score

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "cluster.yaml", ROOT / "deploy" / "gcp.yaml"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

both = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def load(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def everything(config: Any) -> str:
    """What is in the file without its comments."""
    return json.dumps(config)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@both
def test_a_cluster_file_passes_rays_schema_check(file: Path) -> None:
    validate_config(prepare_config(load(file)))
    with pytest.raises(Exception, match="workers_max"):
        validate_config(prepare_config(load(file) | {"workers_max": 3}))


@both
def test_the_head_is_on_demand_and_runs_no_trials(file: Path) -> None:
    cluster = read_cluster_file(file)
    assert not cluster.head.spot
    assert cluster.head.max_workers == 0
    assert load(file)["available_node_types"]["head"]["resources"] == {"CPU": 0, "GPU": 0}


@both
def test_workers_are_spot_machines_of_two_kinds_with_prices_that_come_and_go(file: Path) -> None:
    cluster, types = read_cluster_file(file), load(file)["available_node_types"]
    assert len({worker.instance for worker in cluster.workers}) == 2
    for worker in cluster.workers:
        assert worker.spot
        assert worker.gpus == 1
        assert worker.cpus > 0
        assert types[worker.name]["min_workers"] == 0
    prices = [node.price for node in (cluster.head, *cluster.workers)]
    assert all(price is not None and 0.05 < price < 5 for price in prices)
    assert sum(worker.max_workers for worker in cluster.workers) >= cluster.max_workers > 0
    assert load(file)["idle_timeout_minutes"] > 0
    assert load(file)["provider"]["cache_stopped_nodes"] is False


@both
def test_what_is_sent_exists_and_the_token_is_among_it(file: Path) -> None:
    mounts = load(file)["file_mounts"]
    assert mounts.pop("~/.ray/auth_token") == "~/.ray/auth_token"
    assert all((ROOT / source).exists() for source in mounts.values())
    # A folder beside it with the package's own name would hide the package from whoever works in the home.
    assert all(target.startswith("~/senca/") for target in mounts)


@both
def test_the_image_has_the_pinned_ray_and_the_python_that_torch_is_built_for(file: Path) -> None:
    (ray,) = (pin.partition("==")[2] for pin in PROJECT["dependencies"] if pin.startswith("ray["))
    image = load(file)["docker"]["image"]
    assert re.fullmatch(rf"rayproject/ray:{re.escape(ray)}-py311-cu130", image)
    assert f"FROM {image.removesuffix('cu130')}${{CUDA}}" in (ROOT / "deploy" / "Dockerfile").read_text()


@both
def test_nothing_is_open_to_the_world(file: Path) -> None:
    config = load(file)
    (start,) = (text for text in config["head_start_ray_commands"] if "--head" in text)
    assert "--dashboard-host=127.0.0.1" in start.split()
    assert "0.0.0.0" not in everything(config)
    for node in config["available_node_types"].values():
        # Without these Ray would make a group, or take a network, that lets ssh in from everywhere.
        assert "SecurityGroupIds" in node["node_config"] or "networkInterfaces" in node["node_config"]
    assert "security_group" not in config["provider"]


@both
def test_the_environment_and_the_token_are_ready_before_ray_starts(file: Path, tmp_path: Path) -> None:
    config, storage = load(file), read_cluster_file(file).storage
    (tmp_path / ".ray").mkdir()
    (tmp_path / "senca").mkdir()
    token = tmp_path / ".ray" / "auth_token"
    token.write_text("0" * 64)
    token.chmod(0o644)
    here = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    # All but the installation; twice, as after a second `ray up`.
    for command in config["setup_commands"][:-1] * 2:
        assert shell(command, **here).returncode == 0, command
    assert token.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".bashrc").read_text().count("senca_env") == 1
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = config[commands][-1]
        shown = shell(start[: start.index("ray start")] + "env", **here).stdout.splitlines()
        assert {"RAY_AUTH_MODE=token", "WANDB_MODE=offline", "RAY_USAGE_STATS_ENABLED=0"} <= set(shown)
        assert f"SENCA_STORAGE={storage}" in shown
        # Without the environment Ray does not start at all.
        assert shell(start, HOME="/nowhere", PATH="").returncode == 1
    token.write_text("")
    assert shell(config["setup_commands"][-2], **here).returncode == 1


@both
def test_a_worker_without_its_gpu_does_not_join_and_says_why(file: Path) -> None:
    config = load(file)
    (command,) = (text for text in config["worker_start_ray_commands"] if "nvidia-smi" in text)
    ran = shell(command, RAY_OVERRIDE_RESOURCES='{"CPU":4,"GPU":1}', PATH="/nowhere")
    assert ran.returncode == 1
    assert "no GPU that torch can use" in ran.stderr
    assert shell(command, RAY_OVERRIDE_RESOURCES='{"CPU":4}', PATH="/nowhere").returncode == 0
    assert shell(command, PATH="/nowhere").returncode == 0
    assert "nvidia-smi" not in everything(config["setup_commands"] + config["head_start_ray_commands"])


@both
def test_what_is_installed_is_asked_for_with_an_optional_group_that_exists(file: Path) -> None:
    command = load(file)["setup_commands"][-1]
    (asked,) = re.findall(r"installed ~/senca/pyproject\.toml (\w+)", command)
    assert f'--editable "$HOME/senca[{asked}]"' in command
    assert asked in PROJECT["optional-dependencies"]


def test_a_kind_of_machine_that_was_refused_comes_after_the_other() -> None:
    config = load(FILES[0])
    types = config["available_node_types"]
    clock = [0.0]
    tracker = NodeProviderAvailabilityTracker(timer=lambda: clock[0])
    refusal = NodeLaunchException("InsufficientInstanceCapacity", "none left", None)
    named = re.search(r"RAY_AUTOSCALER_UTILIZATION_SCORER=(\S+)", config["setup_commands"][0])
    assert named and named.group(1) == f"{score.__module__}.{score.__name__}"

    def chosen(gpus: int) -> dict[str, int]:
        def scorer(*given: Any) -> Any:
            return score(*given, node_availability_summary=tracker.summary())

        demands = [{"CPU": 1.0, "GPU": 1.0}] * gpus
        nodes, _ = get_nodes_for(types, {"head": 1}, "head", config["max_workers"], demands, scorer)
        return dict(nodes)

    assert chosen(1) == {"gpu_t4": 1}
    tracker.update_node_availability("gpu_t4", 0, refusal)
    assert chosen(2) == {"gpu_a10g": 2}
    tracker.update_node_availability("gpu_a10g", 0, refusal)
    assert chosen(1) == {"gpu_t4": 1}
    tracker.update_node_availability("gpu_a10g", 0, None)
    clock[0] = 3600.0
    assert chosen(9) == {"gpu_t4": config["max_workers"]}
    assert score({"CPU": 4}, [{"GPU": 1}], "gpu_t4", node_availability_summary=tracker.summary()) is None


@pytest.mark.parametrize("name", ["aws_head_policy.json", "aws_worker_policy.json"])
def test_a_policy_allows_named_actions_on_named_things(name: str) -> None:
    statements = json.loads((ROOT / "deploy" / name).read_text())["Statement"]
    for statement in statements:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in action for action in actions)
        # AWS knows no narrower thing for this one.
        assert statement["Resource"] != "*" or actions == ["ec2:DescribeInstances"]


def test_the_heads_policy_allows_what_the_file_asks_for_and_no_dearer_machines() -> None:
    config = load(FILES[0])
    statements = json.loads((ROOT / "deploy" / "aws_head_policy.json").read_text())["Statement"]
    (start,) = (s for s in statements if s["Resource"].__class__ is str and s["Action"] == "ec2:RunInstances")
    allowed = start["Condition"]["StringLike"]
    workers = read_cluster_file(FILES[0]).workers
    for instance in [worker.instance for worker in workers]:
        assert any(fnmatch.fnmatchcase(instance, pattern) for pattern in allowed["ec2:InstanceType"])
    assert not any(fnmatch.fnmatchcase("p5.48xlarge", pattern) for pattern in allowed["ec2:InstanceType"])
    assert start["Condition"]["StringEquals"] == {"ec2:InstanceMarketType": "spot"}
    assert fnmatch.fnmatchcase(config["cluster_name"], allowed["aws:RequestTag/ray-cluster-name"])
    profiles = {w.config["IamInstanceProfile"]["Name"] for w in workers}
    (pass_role,) = (s for s in statements if s["Action"] == "iam:PassRole")
    assert {pass_role["Resource"].rpartition("/")[2]} == profiles


def test_an_account_is_not_prepared_for_the_whole_world_or_for_nobodys_bucket(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # What it makes of an account is looked at in proofs/ray_up_aws.py.
    main = runpy.run_path(str(ROOT / "deploy" / "aws_account.py"))["main"]

    def prepare(ssh_from: str) -> int:
        monkeypatch.setattr(sys, "argv", ["aws_account.py", str(FILES[0]), "--ssh-from", ssh_from])
        return main()

    for too_much in ("0.0.0.0/0", "10.0.0.0/8", "203.0.113.7/16", "everyone"):
        with pytest.raises(SystemExit, match="2"):
            prepare(too_much)
    assert "expected ADDRESS/BITS" in capsys.readouterr().err
    assert prepare("203.0.113.7/32") == 2
    assert "put your bucket there" in capsys.readouterr().err
