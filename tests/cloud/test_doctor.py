from __future__ import annotations

import copy
import json
import logging
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from senca_ray.cli_doctor import doctor
from senca_ray.cloud import (
    doctor_file,
    doctor_gcp,
    doctor_launch,
    doctor_machine,
    doctor_running,
    doctor_spot,
)
from senca_ray.cloud.cluster_file import ClusterFile, read_cluster_file
from senca_ray.cloud.doctor import CannotLook, Check, Result, Verdict, all_checks, passed, run, to_do
from senca_ray.cloud.doctor_aws import Aws, aws_checks
from senca_ray.cloud.doctor_image import image_there
from senca_ray.cloud.doctor_storage import storage_checks

PASSED, WARNING, FAILED, NOT_CHECKED = Result
RAY, OURS = metadata.version("ray"), metadata.version("senca-ray")
PY = f"{sys.version_info[0]}{sys.version_info[1]}"
SECRET = "geheim" * 6
AMI = "ami-0123456789abcdef0"
APP = typer.Typer(rich_markup_mode=None)
APP.command()(doctor)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of the test's own, with a token and nothing that points to a cloud."""
    for name in (
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT_URL_S3",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "SENCA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("SENCA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(SECRET)
    (tmp_path / ".ray" / "auth_token").chmod(0o600)
    (tmp_path / "package").mkdir()
    return tmp_path


# --- a cluster file


def content() -> dict[str, Any]:
    def kind(instance: str, cpus: int, most: int, **more: Any) -> dict[str, Any]:
        node = {"InstanceType": instance, "ImageId": AMI, "SecurityGroupIds": ["sg-1"], **more}
        node["IamInstanceProfile"] = {"Name": "lab"}
        resources = {"CPU": cpus, "GPU": int(instance[0] == "g")}
        labels = {"price-per-hour": "0.5"}
        return {"resources": resources, "labels": labels, "max_workers": most, "node_config": node}

    spot = {"InstanceMarketOptions": {"MarketType": "spot"}}
    return {
        "cluster_name": "lab",
        "max_workers": 4,
        "provider": {"type": "aws", "region": "us-east-1"},
        "auth": {"ssh_user": "ubuntu"},
        "docker": {"image": f"rayproject/ray:{RAY}-py{PY}-cu130", "container_name": "senca"},
        "head_node_type": "head",
        "available_node_types": {
            "head": kind("m5.xlarge", 0, 0),
            "small": kind("g4dn.xlarge", 4, 4, **spot),
            "large": kind("g5.2xlarge", 8, 2, **spot),
        },
        "file_mounts": {"~/package": "package", "~/.ray/auth_token": "~/.ray/auth_token"},
        "setup_commands": ["echo SENCA_STORAGE=s3://kept/studies", f"pip install senca-ray=={OURS}"],
    }


def cluster(change: Callable[[dict[str, Any]], object] = lambda raw: None) -> ClusterFile:
    raw = content()
    change(raw)
    path = Path("cluster.yaml")
    path.write_text(yaml.safe_dump(raw))
    return read_cluster_file(path)


def put(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets what lies at 'a.b.c' in a cluster file."""

    def change(raw: dict[str, Any]) -> None:
        *folders, name = place.split(".")
        for folder in folders:
            raw = raw[folder]
        raw[name] = value

    return change


NODES = "available_node_types"


def test_a_good_file_passes_what_needs_nobody() -> None:
    verdicts = run([c for c in doctor_file.file_checks(cluster()) if "image" not in c.name], lambda _: None)
    assert [(name, v.result) for name, v in verdicts if v.result is not PASSED] == []


@pytest.mark.parametrize(
    ("look", "place", "value", "result", "words"),
    [
        (doctor_file.schema, "workers_max", 3, FAILED, "workers_max"),
        (doctor_file.schema, f"{NODES}.small.min_workers", -1, FAILED, "small.min_workers is -1"),
        (doctor_file.schema, f"{NODES}.large.min_workers", 3, FAILED, "min_workers 3 above max_workers 2"),
        (doctor_file.schema, f"{NODES}.small.min_workers", 9, FAILED, "smaller than the sum"),
        (doctor_file.schema, "max_workers", 0, FAILED, "no worker may ever start"),
        (
            doctor_file.placeholders,
            f"{NODES}.small.node_config.KeyName",
            "<your key>",
            FAILED,
            "<your key> in",
        ),
        (
            doctor_file.placeholders,
            "setup_commands",
            ["x=s3://EDIT-ME/a"],
            FAILED,
            "x=s3://EDIT-ME/a in setup",
        ),
        (doctor_file.placeholders, "setup_commands", ["s3://BUCKET/a"], FAILED, "s3://BUCKET/a"),
        (doctor_file.placeholders, "setup_commands", ["s3://my-bucket/a"], FAILED, "s3://my-bucket/a"),
        (doctor_file.placeholders, "setup_commands", ["echo $BUCKET AWS_REGION=x a<b"], PASSED, "none"),
        (
            doctor_file.placeholders,
            "provider.ssh",
            "203.0.113.7/32",
            FAILED,
            "203.0.113.7/32 in provider.ssh",
        ),
        (doctor_file.prices, f"{NODES}.small.labels", {}, WARNING, "no price: small"),
        (doctor_file.mounts, "file_mounts.~/x", "gone", FAILED, "~/x: gone"),
        (doctor_file.mounts, "file_mounts", {"~/p": "package"}, WARNING, "send no ~/.ray/auth_token"),
        (doctor_file.ray_version, "docker.image", "rayproject/ray:2.9.1-py311", FAILED, "ray 2.9.1 in the"),
        (doctor_file.ray_version, "setup_commands", ["pip install ray[tune]==2.1.0"], FAILED, "2.1.0"),
        (doctor_file.ray_version, "docker", {}, NOT_CHECKED, "neither an image nor a command"),
        (doctor_file.python_version, "docker.image", "rayproject/ray:2.9.1-py39", WARNING, "3.9 in the"),
        (doctor_file.python_version, "docker", {}, NOT_CHECKED, "no image"),
        (doctor_file.package_version, "setup_commands", ["pip install senca_ray-0.0.7-py3"], FAILED, "0.0.7"),
        (doctor_file.package_version, "setup_commands", [], NOT_CHECKED, "neither installs"),
    ],
)
def test_what_is_wrong_with_a_file_is_found(
    look: Callable[[ClusterFile], Verdict], place: str, value: Any, result: Result, words: str
) -> None:
    given = cluster(put(place, value))
    [(_, verdict)] = run([Check("it", lambda: look(given))], lambda _: None)
    assert (verdict.result, words in verdict.found) == (result, True), verdict
    assert bool(verdict.fix) == (result in (FAILED, WARNING))


def test_the_source_that_is_sent_tells_its_version(home: Path) -> None:
    file = home / "package" / "pyproject.toml"
    file.write_text(f'[project]\nname = "senca-ray"\nversion = "{OURS}"\n')
    assert doctor_file.package_version(cluster(put("setup_commands", []))).result is PASSED
    file.write_text('[project]\nname = "senca-ray"\nversion = "0.0.8"\n')
    for source in ("package", "package/pyproject.toml"):
        verdict = doctor_file.package_version(cluster(put("file_mounts", {"~/p": source})))
        assert verdict.result is FAILED and "0.0.8" in verdict.found


# --- this machine


def test_python_and_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_machine.python().result is PASSED
    assert doctor_machine.packages().result is PASSED
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert doctor_machine.python().result is FAILED
    true = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.1.0" if name == "ray" else true(name))
    verdict = doctor_machine.packages()
    assert verdict.result is WARNING and "ray 2.1.0 (==" in verdict.found


def test_a_cache_that_cannot_be_written_or_is_full(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_machine.cache_folder().result is PASSED and not list((home / "cache").iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9))
    assert doctor_machine.cache_folder().result is WARNING
    (home / "file").write_text("")
    monkeypatch.setenv("SENCA_CACHE", str(home / "file" / "below"))
    assert doctor_machine.cache_folder().result is FAILED


def test_the_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / ".ray" / "auth_token"
    assert doctor_machine.token(True).result is PASSED and doctor_machine.request_token() == SECRET
    file.chmod(0o644)
    verdict = doctor_machine.token(False)
    assert verdict.result is FAILED and verdict.fix == f"chmod 600 {file}"
    file.write_text("\n")
    assert "empty" in doctor_machine.token(False).found
    file.unlink()
    assert doctor_machine.token(True).result is FAILED
    assert doctor_machine.token(False).result is WARNING and doctor_machine.request_token() == ""
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    verdict = doctor_machine.token(True)
    assert verdict.result is PASSED and SECRET not in str(verdict)


def test_programs_and_accelerator(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    verdict = doctor_machine.programs()
    assert verdict.result is FAILED and "ssh, rsync" in verdict.found
    # Its import takes longer than all else here; nothing but these is asked of it.
    cuda = SimpleNamespace(is_available=lambda: False)
    torch = SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda=None), __version__="2")
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert doctor_machine.accelerator().result is PASSED
    for name in ("ssh", "rsync", "nvidia-smi"):
        (home / name).touch(0o755)
    assert doctor_machine.programs().result is PASSED
    assert doctor_machine.accelerator().result is WARNING


def test_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    from senca_ray.report import wandb_session

    monkeypatch.setattr(wandb_session, "mode", lambda: "online")
    monkeypatch.setattr(wandb_session, "check_account", lambda: None)
    assert doctor_machine.wandb().result is PASSED

    def refuse() -> None:
        raise wandb_session.Unsendable("W&B does not accept the key")

    monkeypatch.setattr(wandb_session, "check_account", refuse)
    verdict = doctor_machine.wandb()
    assert verdict.result is WARNING and "does not accept the key" in verdict.found


# --- what answers over HTTP: registries, dashboards, storages

Answer = Callable[[str, dict[str, str]], tuple[int, dict[str, str], Any]]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts servers on this machine, each answering every request by a function of its path and headers."""
    servers = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, body = answer(self.path, dict(self.headers))
                text = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response_only(status)
                for name, value in {"Content-Length": str(len(text)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_image_is_looked_for_with_a_pass_for_anybody(serve: Callable[[Answer], str]) -> None:
    url = ""

    def answer(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        if path.startswith("/token"):
            assert path == "/token?service=reg&scope=repository%3Alab%2Fray%3Apull"
            return 200, {}, {"token": "pass"}
        if "private" in path or headers.get("Authorization") != "Bearer pass":
            challenge = f'Bearer realm="{url}/token",service="reg",scope="repository:lab/ray:pull"'
            return 401, {"WWW-Authenticate": challenge}, {}
        return 200 if path == "/v2/lab/ray/manifests/2" else 404, {}, {}

    url = serve(answer)
    host = url.removeprefix("http://")
    assert image_there(f"{host}/lab/ray:2").result is PASSED
    verdict = image_there(f"{host}/lab/ray:3")
    assert verdict.result is FAILED and "has no lab/ray:3" in verdict.found
    with pytest.raises(CannotLook, match="to nobody without a login"):
        image_there(f"{host}/private/ray:2")
    with pytest.raises(CannotLook, match=r"no answer from 127\.0\.0\.1:9"):
        image_there("127.0.0.1:9/lab/ray:2")


@pytest.mark.parametrize(
    ("version", "status", "result", "words"),
    [
        (RAY, 200, PASSED, RAY),
        ("2.1.0", 200, FAILED, "ray 2.1.0 there"),
        (None, 200, FAILED, "not as a Ray dashboard"),
        (RAY, 403, FAILED, "refuses this machine's token"),
    ],
)
def test_the_ray_of_a_running_cluster(
    serve: Callable[[Answer], str], version: str | None, status: int, result: Result, words: str
) -> None:
    seen = []

    def answer(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        seen.append(headers.get("Authorization"))
        return status, {}, {"ray_version": version}

    verdict = doctor_running.ray_there(serve(answer))
    assert (verdict.result, words in verdict.found) == (result, True), verdict
    assert seen == [f"Bearer {SECRET}"] and SECRET not in str(verdict)


def test_the_python_of_a_running_cluster_and_one_that_is_none(serve: Callable[[Answer], str]) -> None:
    there: dict[str, Any] = {"pythonVersion": "3.9.2"}
    url = serve(lambda path, headers: (200, {}, {"data": there}))
    assert doctor_running.python_there(url).result is WARNING
    there["pythonVersion"] = "{}.{}.0".format(*sys.version_info)
    assert doctor_running.python_there(url).result is PASSED
    there.clear()
    with pytest.raises(CannotLook):
        doctor_running.python_there(url)
    assert doctor_running.ray_there("http://127.0.0.1:9").result is FAILED
    assert "dashboard's address" in doctor_running.ray_there("127.0.0.1:8265").expected
    elsewhere = serve(lambda path, headers: (302, {"Location": f"{url}{path}"}, {}))
    assert doctor_running.ray_there(elsewhere).result is FAILED


def look(address: str | None, region: str = "us-east-1") -> dict[str, Verdict]:
    return dict(run(storage_checks(address, region), lambda _: None))


@pytest.mark.parametrize(
    ("ahead", "result", "words"),
    [(10, PASSED, "ahead"), (120, WARNING, "12"), (-400, FAILED, "behind")],
)
def test_a_clock_that_is_off(
    serve: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch, ahead: int, result: Result, words: str
) -> None:
    def answer(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        there = datetime.now(UTC) - timedelta(seconds=ahead)
        return 403, {"Date": format_datetime(there, usegmt=True)}, {}

    monkeypatch.setenv("AWS_ENDPOINT_URL", serve(answer))
    verdict = look(None)["clock"]
    assert (verdict.result, words in verdict.found) == (result, True), verdict
    assert look(None)["storage"].result is WARNING


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(403, "AccessDenied", "access denied"), (301, "PermanentRedirect", "lies in another region")],
)
def test_a_bucket_that_refuses(
    serve: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch, status: int, code: str, words: str
) -> None:
    error = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    monkeypatch.setenv(
        "AWS_ENDPOINT_URL", serve(lambda p, h: (status, {"x-amz-bucket-region": "eu-west-1"}, error))
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    found = look("s3://there/studies")
    assert found["storage"].result is FAILED and words in found["storage"].found
    assert found["bucket's region"].result is WARNING and "eu-west-1" in found["bucket's region"].fix
    assert found["clock"].result is NOT_CHECKED


def test_a_storage_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = look("s3://there/studies")
    assert [v.result for v in found.values()] == [NOT_CHECKED, NOT_CHECKED, FAILED]


# --- AWS, as it answers in words; what it is asked goes through boto3's own checks


class Session:
    """A session of boto3 whose requests are checked as ever, and then answered by `answer`."""

    def __init__(self) -> None:
        import boto3

        self._real = boto3.Session("key", SECRET)
        self._real.events.register("before-call", lambda model, **_: self.answer(model.name))
        self.answer: Callable[[str], tuple[Any, Any]]
        # Made once for all tests: that takes longer than all else here.
        self.client = cache(lambda service, region_name, config: self._real.client(service, region_name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session()


class Refused(Exception):
    """An error of AWS, by its code."""


def healthy() -> dict[str, Any]:
    def offers(*names: str) -> dict[str, Any]:
        zones = ("us-east-1a", "us-east-1b")
        return {"InstanceTypeOfferings": [{"InstanceType": n, "Location": z} for n in names for z in zones]}

    def size(name: str, cpus: int, gpus: int) -> dict[str, Any]:
        gpu = {"GpuInfo": {"Gpus": [{"Count": gpus}]}} if gpus else {}
        return {"InstanceType": name, "VCpuInfo": {"DefaultVCpus": cpus}, **gpu}

    sizes = [size("m5.xlarge", 4, 0), size("g4dn.xlarge", 4, 1), size("g5.2xlarge", 8, 1)]
    prices = [
        {"InstanceType": n, "SpotPrice": p} for n in ("g4dn.xlarge", "g5.2xlarge") for p in ("0.2", "0.3")
    ]
    near = [{"FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "141.80.1.0/24"}]}]
    return {
        "GetCallerIdentity": {"Arn": "arn:aws:iam::1:user/me"},
        "DescribeRegions": {"Regions": [{"RegionName": "us-east-1", "OptInStatus": "opt-in-not-required"}]},
        "DescribeInstanceTypeOfferings": offers("m5.xlarge", "g4dn.xlarge", "g5.2xlarge"),
        "DescribeInstanceTypes": {"InstanceTypes": sizes},
        "GetServiceQuota": {"Quota": {"Value": 64.0}},
        "DescribeSpotPriceHistory": {"SpotPriceHistory": prices},
        "DescribeImages": {"Images": [{"State": "available", "Name": "ubuntu"}]},
        "GetInstanceProfile": {"InstanceProfile": {"Roles": [{}]}},
        "DescribeSecurityGroups": {"SecurityGroups": [{"GroupId": "sg-1", "IpPermissions": near}]},
        "RunInstances": Refused("DryRunOperation"),
        "GetRole": {},
    }


def ask(
    session: Session,
    only: str = "",
    change: Callable[[dict[str, Any]], object] = lambda raw: None,
    answers: dict[str, Any] | None = None,
) -> dict[str, Verdict]:
    """What the checks of AWS (or only one) find in a cluster file, where AWS answers so."""
    given = healthy() | (answers or {})

    def answer(name: str) -> tuple[Any, Any]:
        content = given[name]
        if isinstance(content, Refused):
            code = str(content)
            return SimpleNamespace(status_code=400), {"Error": {"Code": code, "Message": code}}
        return SimpleNamespace(status_code=200), content

    session.answer = answer
    aws = Aws(cluster(change), session)
    checks = [
        Check("credentials", aws.credentials),
        Check("region", aws.region),
        Check("types", aws.instance_types),
        *doctor_spot.quota_checks(aws),
        *doctor_spot.spot_checks(aws),
        *doctor_launch.launch_checks(aws),
    ]
    return dict(run([check for check in checks if only in check.name], lambda _: None))


def test_where_all_is_well_only_capacity_cannot_be_known(session: Session) -> None:
    found = ask(session)
    assert {name for name, verdict in found.items() if verdict.result is not PASSED} == {"spot capacity"}
    assert found["spot capacity"].result is NOT_CHECKED
    # Head 4; workers: two large of 8, then two small of 4.
    assert "takes 4 at most" in found["quota: standard on demand"].found
    assert "takes 24 at most" in found["quota: G and VT spot"].found


@pytest.mark.parametrize(
    ("check", "answers", "result", "words"),
    [
        (
            "credentials",
            {"GetCallerIdentity": Refused("InvalidClientTokenId")},
            FAILED,
            "InvalidClientTokenId",
        ),
        ("credentials", {"GetCallerIdentity": Refused("SignatureDoesNotMatch")}, FAILED, "this clock"),
        ("types", {"GetCallerIdentity": Refused("ExpiredToken")}, NOT_CHECKED, "needs AWS credentials"),
        (
            "region",
            {"DescribeRegions": {"Regions": [{"RegionName": "us-east-1", "OptInStatus": "not-opted-in"}]}},
            FAILED,
            "not open to this account",
        ),
        ("region", {"DescribeRegions": Refused("UnauthorizedOperation")}, NOT_CHECKED, "may not ask"),
        (
            "types",
            {"DescribeInstanceTypeOfferings": {"InstanceTypeOfferings": []}},
            FAILED,
            "not offered in us-east-1: g4dn.xlarge",
        ),
        ("quota: G and VT spot", {"GetServiceQuota": {"Quota": {"Value": 0.0}}}, FAILED, "0 vCPUs"),
        ("quota: G and VT spot", {"GetServiceQuota": {"Quota": {"Value": 8.0}}}, WARNING, "8 vCPUs"),
        ("quota: standard on demand", {"GetServiceQuota": {"Quota": {"Value": 2.0}}}, FAILED, "2 vCPUs"),
        (
            "quota: G and VT spot",
            {"GetServiceQuota": Refused("AccessDeniedException")},
            NOT_CHECKED,
            "denied",
        ),
        (
            "quota: G and VT spot",
            {
                "GetServiceQuota": Refused("NoSuchResourceException"),
                "GetAWSDefaultServiceQuota": {"Quota": {"Value": 0.0}},
            },
            FAILED,
            "0 vCPUs",
        ),
        ("spot prices", {"DescribeSpotPriceHistory": {"SpotPriceHistory": []}}, NOT_CHECKED, "no spot price"),
        ("machine image", {"DescribeImages": {"Images": []}}, FAILED, f"{AMI} is not in us-east-1"),
        ("machine image", {"DescribeImages": {"Images": [{"State": "failed"}]}}, FAILED, AMI),
        (
            "instance profile",
            {"GetInstanceProfile": Refused("NoSuchEntity")},
            FAILED,
            "no instance profile lab",
        ),
        (
            "instance profile",
            {"GetInstanceProfile": {"InstanceProfile": {"Roles": []}}},
            FAILED,
            "holds no role",
        ),
        ("open ports", {"DescribeSecurityGroups": {"SecurityGroups": []}}, FAILED, "sg-1"),
        ("permission to start", {"RunInstances": Refused("UnauthorizedOperation")}, FAILED, "would not let"),
        (
            "permission to start",
            {"RunInstances": Refused("VPCIdNotSpecified")},
            NOT_CHECKED,
            "VPCIdNotSpecified",
        ),
        ("permission to start", {"RunInstances": {}}, NOT_CHECKED, "knows no dry runs"),
        ("spot role", {"GetRole": Refused("NoSuchEntity")}, FAILED, "nobody has used spot"),
    ],
)
def test_what_aws_would_refuse_is_found(
    session: Session, check: str, answers: Any, result: Result, words: str
) -> None:
    verdict = ask(session, check, answers=answers)[check]
    assert (verdict.result, words in verdict.found) == (result, True), verdict
    assert bool(verdict.fix) == (result in (FAILED, WARNING)) and SECRET not in str(verdict)


@pytest.mark.parametrize(
    ("check", "place", "value", "result", "words"),
    [
        ("region", "provider.region", "us-east-7", FAILED, "us-east-7 is none of AWS's"),
        ("region", "provider.availability_zone", "us-west-2a", FAILED, "us-west-2a"),
        ("types", "provider.region", "us-east-7", NOT_CHECKED, "needs a region"),
        ("types", "provider.availability_zone", "us-east-1f", FAILED, "not offered in us-east-1f"),
        ("types", f"{NODES}.small.resources", {"CPU": 4, "GPU": 4}, WARNING, "promises 4 GPU"),
        (
            "quota: p5.48xlarge",
            f"{NODES}.small.node_config.InstanceType",
            "p5.48xlarge",
            NOT_CHECKED,
            "not known",
        ),
        ("spot prices", f"{NODES}.small.labels", {"price-per-hour": "0.1"}, WARNING, "small cost more"),
        (
            "spot prices",
            f"{NODES}.small.node_config.InstanceMarketOptions.SpotOptions",
            {"MaxPrice": "0.1"},
            FAILED,
            "MaxPrice 0.1",
        ),
        ("spot capacity", f"{NODES}.small.node_config.InstanceMarketOptions", {}, WARNING, "one spot type"),
        (
            "instance profile",
            f"{NODES}.small.node_config.IamInstanceProfile",
            None,
            WARNING,
            "none for small",
        ),
    ],
)
def test_what_the_file_asks_of_aws_in_vain_is_found(
    session: Session, check: str, place: str, value: Any, result: Result, words: str
) -> None:
    verdict = ask(session, check, put(place, value))[check]
    assert (verdict.result, words in verdict.found) == (result, True), verdict


def test_a_file_without_an_image_takes_rays_own_and_one_may_be_a_parameter(session: Session) -> None:
    def look(change: Callable[[dict[str, Any]], None], **answers: Any) -> Verdict:
        return ask(session, "machine image", change, answers)["machine image"]

    def images(value: str | None, region: str = "us-east-1") -> Callable[[dict[str, Any]], None]:
        def change(raw: dict[str, Any]) -> None:
            raw["provider"]["region"] = region
            for node in raw[NODES].values():
                node["node_config"]["ImageId"] = value or ""

        return change

    assert look(images(None)).result is PASSED
    verdict = look(images(None, "eu-north-1"))
    assert verdict.result is FAILED and "Ray has none for eu-north-1" in verdict.found
    named = {"Parameters": [{"Value": AMI}]}
    assert AMI in look(images("resolve:ssm:/aws/x"), GetParameters=named).found
    unnamed = {"Parameters": []}
    assert look(images("resolve:ssm:/aws/x"), GetParameters=unnamed).result is FAILED


@pytest.mark.parametrize(
    ("low", "high", "result"), [(22, 22, WARNING), (8265, 8265, FAILED), (-1, -1, FAILED), (20, 30, FAILED)]
)
def test_ports_that_are_open_to_the_world(session: Session, low: int, high: int, result: Result) -> None:
    rule = {"FromPort": low, "ToPort": high, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    groups = {"SecurityGroups": [{"GroupId": "sg-1", "IpPermissions": [rule]}]}
    assert (
        ask(session, "open ports", answers={"DescribeSecurityGroups": groups})["open ports"].result is result
    )


def test_a_group_that_ray_will_make_itself_opens_ssh_to_the_world(session: Session) -> None:
    def without(raw: dict[str, Any]) -> None:
        for node in raw[NODES].values():
            del node["node_config"]["SecurityGroupIds"]

    none = {"DescribeSecurityGroups": {"SecurityGroups": []}}
    verdict = ask(session, "open ports", without, none)["open ports"]
    assert verdict.result is WARNING and "ray-autoscaler-lab" in verdict.found and "port 22" in verdict.found


@pytest.mark.parametrize(("score", "result"), [(9, PASSED), (1, WARNING), (None, NOT_CHECKED)])
def test_of_three_spot_types_the_placement_score_is_a_hint(
    session: Session, score: int | None, result: Result
) -> None:
    def third(raw: dict[str, Any]) -> None:
        raw[NODES]["third"] = copy.deepcopy(raw[NODES]["small"])
        raw[NODES]["third"]["node_config"]["InstanceType"] = "g6.xlarge"

    scores = {"SpotPlacementScores": [] if score is None else [{"Score": score}]}
    found = ask(session, "spot capacity", third, {"GetSpotPlacementScores": scores})
    assert found["spot capacity"].result is result


def test_no_credentials_no_profile_and_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def credentials() -> Verdict:
        return run(aws_checks(cluster())[:1], lambda _: None)[0][1]

    verdict = credentials()
    assert verdict.result is FAILED and verdict.found == "no credentials" and "aws configure" in verdict.fix
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in credentials().found
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert credentials().result is NOT_CHECKED
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert credentials().fix == "pip install 'senca-ray[aws]'"


def test_google_is_looked_at_as_far_as_it_goes(home: Path) -> None:
    def gcp(raw: dict[str, Any]) -> None:
        raw["provider"] = {"type": "gcp", "region": "us-central1"}

    found = dict(run(doctor_gcp.gcp_checks(cluster(gcp)), lambda _: None))
    assert found["Google credentials"].result is FAILED
    assert found["quotas, machines, images"].result is NOT_CHECKED
    (home / "gcloud").mkdir()
    there = {"type": "authorized_user", "client_id": "a", "client_secret": SECRET, "refresh_token": SECRET}
    (home / "gcloud" / "application_default_credentials.json").write_text(json.dumps(there))
    verdict = doctor_gcp.credentials()
    assert verdict.result is PASSED and "not tried" in verdict.found and SECRET not in verdict.found


# --- the whole


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B and torch, which are slow to import, are looked at by other tests."""
    for name in ("wandb", "accelerator"):
        monkeypatch.setattr(doctor_machine, name, lambda: passed("not here"))


def test_a_check_that_breaks_off_hides_no_other() -> None:
    def broken() -> Verdict:
        raise ZeroDivisionError("by zero")

    said: list[str] = []
    found = run([Check("a", broken), Check("b", lambda: passed("fine"))], said.append)
    assert [verdict.result for _, verdict in found] == [NOT_CHECKED, PASSED] and said == ["a", "b"]
    assert "ZeroDivisionError" in found[0][1].found and to_do(found) == []


def test_a_machine_alone(quick: None) -> None:
    result = CliRunner().invoke(APP, [])
    assert result.exit_code == 0, result.output
    assert "failed" not in result.output and SECRET not in result.output


def test_a_file_that_cannot_be_read_and_a_wrong_storage_are_told_beside_all_else(
    quick: None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "cluster.yaml").write_text("provider: {type: [}")
    monkeypatch.setenv("SENCA_STORAGE", "/not/an/address")
    (home / ".ray" / "auth_token").chmod(0o640)
    result = CliRunner().invoke(APP, ["--cluster", "cluster.yaml", "--address", "http://127.0.0.1:9"])
    assert result.exit_code == 2
    for name in ("token", "SENCA_STORAGE", "cluster file", "running cluster: Ray"):
        assert f"- {name} (failed)" in result.output


def test_an_address_that_is_not_filled_in_is_not_asked(quick: None) -> None:
    cluster(put("setup_commands", ["SENCA_STORAGE=s3://EDIT-ME/x"]))
    names = [c.name for c in all_checks(Path("cluster.yaml"), None)]
    assert "clock" not in names
    verdicts = dict(run([c for c in all_checks(Path("cluster.yaml"), None) if c.name == "storage"], print))
    assert verdicts["storage"].result is NOT_CHECKED


def test_against_a_loopback_aws(quick: None, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (("ENDPOINT_URL", f"http://{host}:{port}"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(doctor_file, "image_check", lambda image: Check("docker image", lambda: passed("")))
    try:
        iam, ec2, s3 = (boto3.client(service, "us-east-1") for service in ("iam", "ec2", "s3"))
        iam.create_instance_profile(InstanceProfileName="lab")
        iam.create_role(RoleName="lab", AssumeRolePolicyDocument="{}")
        iam.add_role_to_instance_profile(InstanceProfileName="lab", RoleName="lab")
        group = ec2.create_security_group(GroupName="lab", Description="lab")["GroupId"]
        image = ec2.describe_images()["Images"][0]["ImageId"]

        def real(raw: dict[str, Any]) -> None:
            for node in raw[NODES].values():
                node["node_config"] |= {"ImageId": image, "SecurityGroupIds": [group]}

        cluster(real)
        before = look("s3://kept/studies")["storage"]
        s3.create_bucket(Bucket="kept")
        result = CliRunner().invoke(APP, ["--cluster", "cluster.yaml"])
        left = [found["Key"] for found in s3.list_objects_v2(Bucket="kept").get("Contents", [])]
        started = ec2.describe_instances()["Reservations"]
    finally:
        server.stop()
    assert before.result is FAILED and before.fix == "aws s3 mb s3://kept --region us-east-1"
    assert result.exit_code == 2 and SECRET not in result.output, result.output
    # An account in which nobody has used spot; quotas, which this server does not know, are not passed.
    assert result.output.count("(failed)") == 1, result.output
    assert "- spot role (failed): aws iam create-service-linked-role" in result.output
    rows = [line for line in result.output.splitlines() if line.startswith("quota")]
    assert len(rows) == 2 and all("not checked" in row for row in rows)
    assert "s3://kept/studies: written, read and rem" in result.output
    assert not [key for key in left if "doctor" in key] and started == []
