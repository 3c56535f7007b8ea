"""Proof: `ray up cluster.yaml` against an AWS on this machine's loopback, to the end, and `ray down`.

Moto answers for AWS. Its machines have addresses and nothing behind them, so `ssh` and `rsync` are stand-ins
that write down what they are asked: the transcript, which is checked command by command. What a machine would
do without a cloud is done here, in folders that stand for its home: files are copied, the token's mode is
set, the environment is written and read. Then the autoscaler runs as on the head: trials wait, spot machines
come; one kind is refused, the other comes; no more come than max_workers.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from senca_ray.files import write_json

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "cluster.yaml"
OUT = ROOT / "proofs" / "results" / "ray_up_aws.json"
BIN = Path(sys.executable).parent
FROM = "203.0.113.0/24"
"""Range of addresses that ssh is let in from (one reserved for documentation)."""
BUCKET = "lab-senca"
CONTAINER_HOME = "/home/ray"
PATIENCE = 400
"""Seconds for one command; much more than a slow machine needs."""

_LOGIN = "source ~/.bashrc; export OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore && ("
"""What Ray puts before a command that it runs in a login shell."""

SSH = r"""#!{python}
import json, os, pathlib, sys
state, args = pathlib.Path(os.environ["PROOF_STATE"]), sys.argv[1:]
at = next(i for i, arg in enumerate(args) if arg.startswith("ubuntu@"))
host, command = args[at].partition("@")[2], " ".join(args[at + 1 :])
with (state / "transcript.jsonl").open("a") as log:
    log.write(json.dumps(dict(tool="ssh", by=os.environ["PROOF_BY"], host=host, command=command)) + "\n")
running = state / f"running-{{host}}"
answers = [
    ("printenv HOME", "{home}"),
    ("command -v docker", "/usr/bin/docker"),
    ("docker info", "map[nvidia:nvidia-container-runtime runc:runc]"),
    (".State.Running", "true" if running.exists() else "no such object"),
    ("json .Config.Env", '["HOME={home}"]'),
    ("/proc/meminfo", "MemAvailable: 16000000 kB"),
]
print(next((answer for part, answer in answers if part in command), ""))
if "docker run" in command:
    running.touch()
# The head has no GPU, and no driver that answers.
alone = command.rstrip(" ')\"").endswith("nvidia-smi")
sys.exit(1 if alone and os.environ["PROOF_BY"] == "laptop" else 0)
"""

RSYNC = r"""#!{python}
import json, os, pathlib, subprocess, sys
state, (source, target) = pathlib.Path(os.environ["PROOF_STATE"]), sys.argv[-2:]
host, _, path = target.partition("@")[2].partition(":")
entry = dict(tool="rsync", by=os.environ["PROOF_BY"], host=host, source=source, path=path)
with (state / "transcript.jsonl").open("a") as log:
    log.write(json.dumps(entry) + "\n")
copy = state / "homes" / host / path.partition("~/")[2]
copy.parent.mkdir(parents=True, exist_ok=True)
skipped = [word for i, arg in enumerate(sys.argv) if arg == "--exclude" for word in sys.argv[i : i + 2]]
sys.exit(subprocess.run(["{rsync}", "-a", *skipped, source, str(copy)]).returncode)
"""

PYTHON = """#!/bin/sh
case "$*" in *"-m pip"*) echo pip >> "$PROOF_STATE/pip"; exit 0;; esac
exec {python} "$@"
"""


@dataclass
class Proof:
    """What was checked, in words, and whether it held."""

    checks: dict[str, bool] = field(default_factory=dict)

    def check(self, what: str, held: object, seen: object = "") -> None:
        self.checks[what] = bool(held) and self.checks.get(what, True)
        print(f"  {'ok  ' if held else 'FAIL'} {what}{'' if held else f' (seen: {seen})'}", flush=True)


@dataclass
class Aws:
    """The AWS on the loopback: what was asked of it, and what it refuses."""

    url: str
    launches: list[dict[str, str]] = field(default_factory=list)
    """Parameters of each request for machines, as they came over the wire."""
    refused: set[str] = field(default_factory=set)
    """Kinds of machines there is no capacity of."""

    def client(self, name: str) -> Any:
        import boto3

        return boto3.client(
            name,
            region_name=yaml.safe_load(CLUSTER.read_text())["provider"]["region"],
            endpoint_url=self.url,
            aws_access_key_id="proof",
            aws_secret_access_key="proof",
        )

    def machines(self) -> list[dict[str, Any]]:
        """Those that are not ended."""
        found = self.client("ec2").describe_instances()["Reservations"]
        machines = [machine for reservation in found for machine in reservation["Instances"]]
        return [machine for machine in machines if machine["State"]["Name"] in ("pending", "running")]


@contextmanager
def aws() -> Iterator[Aws]:
    """Moto on the loopback, with an eye on what is launched."""
    from moto.ec2.exceptions import EC2ClientError
    from moto.ec2.responses.instances import InstanceResponse
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    here = Aws("http://{}:{}".format(*server.get_host_and_port()))
    original = InstanceResponse.run_instances

    def run_instances(self: Any) -> Any:
        asked = {name: values[0] for name, values in self.querystring.items()}
        here.launches.append(asked)
        if asked["InstanceType"] in here.refused:
            raise EC2ClientError("InsufficientInstanceCapacity", "There is no Spot capacity available.")
        return original(self)

    InstanceResponse.run_instances = run_instances
    try:
        yield here
    finally:
        InstanceResponse.run_instances = original
        server.stop()


def stand_ins(folder: Path) -> None:
    """Programs that come before the real ones in PATH."""
    rsync = shutil.which("rsync")
    if rsync is None:
        raise SystemExit("rsync is not installed; apt-get install -y rsync")
    folder.mkdir()
    known = {"python": sys.executable, "home": CONTAINER_HOME, "rsync": rsync}
    for name, text in {"ssh": SSH, "rsync": RSYNC, "python": PYTHON}.items():
        (folder / name).write_text(text.format(**known))
        (folder / name).chmod(0o755)


def run(command: list[str], environment: Mapping[str, str], expected: int = 0) -> str:
    """Run a command in the repository and return what it prints; SystemExit when it ends otherwise."""
    ran = subprocess.run(
        command,
        cwd=ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if ran.returncode != expected:
        raise SystemExit(
            f"{shlex.join(command)} ended with {ran.returncode}, expected {expected}:\n{ran.stdout[-3000:]}"
            f"{ran.stderr[-3000:]}"
        )
    return ran.stdout


def edited(text: str, group: str) -> str:
    """The file with the lines a researcher edits: bucket, and security group where it is known."""
    return text.replace("s3://EDIT-ME/", f"s3://{BUCKET}/").replace("sg-EDIT-ME", group or "sg-EDIT-ME")


def unwrapped(command: str) -> tuple[bool, str]:
    """(in the container, command as the cluster file has it) of what ssh was given."""
    inside = False
    while True:
        words = shlex.split(command)
        if words[:4] == ["bash", "--login", "-c", "-i"]:
            command = words[4].removeprefix(_LOGIN).removesuffix(")")
        elif words[:2] == ["docker", "exec"] and "/bin/bash" in words:
            inside, command = True, words[-1]
        else:
            return inside, command.strip()


def commands(transcript: list[dict[str, str]], host: str) -> list[str]:
    """Commands run in the host's container, in order, without the variables that Ray puts before them."""
    given = [unwrapped(e["command"]) for e in transcript if e["tool"] == "ssh" and e["host"] == host]
    return [re.sub(r"^(export \w+=('[^']*'|[^ ;]*); ?)+", "", text) for inside, text in given if inside]


def in_order(wanted: list[str], seen: list[str]) -> bool:
    """Whether all wanted commands were run, in this order."""
    left = iter(seen)
    return all(any(found == command for found in left) for command in wanted)


def in_container(command: str) -> str:
    """A command of the cluster file as Ray gives it to the container."""
    return command.replace("~/", f"{CONTAINER_HOME}/").strip()


def account(proof: Proof, cloud: Aws, file: Path, environment: Mapping[str, str]) -> str:
    """Prepare the account as docs/cluster.md says; returns the security group's id."""
    script = [str(BIN / "python"), "deploy/aws_account.py", str(file), "--ssh-from"]
    run([*script, "0.0.0.0/0"], environment, expected=2)
    run([*script, "198.51.100.7/32"], environment)
    printed = run([*script, FROM], environment)
    found = re.search(r"\[(sg-\w+)\]", printed)
    if not found:
        raise SystemExit(f"deploy/aws_account.py names no security group: {printed}")
    group = found.group(1)
    (rules,) = cloud.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
    open_to = [
        (r.get("FromPort"), r.get("ToPort"), [a["CidrIp"] for a in r["IpRanges"]], r.get("Ipv6Ranges", []))
        for r in rules["IpPermissions"]
        if not r["UserIdGroupPairs"]
    ]
    among = [pair["GroupId"] for rule in rules["IpPermissions"] for pair in rule["UserIdGroupPairs"]]
    proof.check(
        "only port 22 is open, to the range given, after another one before",
        open_to == [(22, 22, [FROM], [])],
        open_to,
    )
    proof.check("members of the group reach each other", among == [group], among)
    iam = cloud.client("iam")
    for role, count in {"senca-ray-head": 2, "senca-ray-worker": 1}.items():
        names = iam.list_role_policies(RoleName=role)["PolicyNames"]
        texts = json.dumps(
            [iam.get_role_policy(RoleName=role, PolicyName=n)["PolicyDocument"] for n in names]
        )
        whole = not re.search(r"\b(REGION|ACCOUNT|BUCKET)\b", texts) and f"arn:aws:s3:::{BUCKET}/*" in texts
        proof.check(
            f"{role}: {count} of our policies, filled in, nothing attached",
            whole
            and len(names) == count
            and not iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"],
            names,
        )
    return group


def check_head(
    proof: Proof, cloud: Aws, cluster: dict[str, Any], group: str, transcript: list[dict[str, str]]
) -> str:
    """What `ray up` launched, copied and ran; returns the head's public address."""
    (head,) = cloud.machines()
    (asked,) = cloud.launches
    ip = head["PublicIpAddress"]
    spot = [name for name in asked if name.startswith("InstanceMarketOptions")]
    proof.check(
        "the head is on demand, of the type that the file names",
        not spot and asked["InstanceType"] == "m5.xlarge",
        asked,
    )
    proof.check(
        "the head has its profile and our group alone",
        head["IamInstanceProfile"]["Arn"].endswith("/senca-ray-head")
        and [g["GroupId"] for g in head["SecurityGroups"]] == [group],
        head["SecurityGroups"],
    )
    groups = {g["GroupName"] for g in cloud.client("ec2").describe_security_groups()["SecurityGroups"]}
    proof.check("Ray made no group of its own", groups == {"default", "senca-ray"}, groups)
    proof.check(
        "keys of the head's role travel by signed sessions only (IMDSv2)",
        asked.get("MetadataOptions.HttpTokens") == "required",
        asked,
    )
    hosts = {entry["host"] for entry in transcript}
    proof.check("nothing but the head was spoken to", hosts == {ip}, hosts)
    raw = [unwrapped(entry["command"])[1] for entry in transcript if entry["tool"] == "ssh"]
    image = cluster["docker"]["image"]
    pulled = [text for text in raw if text.startswith("docker pull")]
    proof.check(
        "the pinned image was pulled",
        pulled == [f"docker pull {image}"] and ":2.60.0-py311-" in image,
        pulled,
    )
    started = [text for text in raw if text.startswith("docker run")]
    token = f"/~/.ray/auth_token:{CONTAINER_HOME}/.ray/auth_token"
    proof.check(
        "one container, with the token, without a GPU",
        len(started) == 1 and token in started[0] and "--runtime=nvidia" not in started[0],
        started,
    )
    wanted = [in_container(text) for text in cluster["setup_commands"] + cluster["head_start_ray_commands"]]
    seen = commands(transcript, ip)
    proof.check(
        f"{len(wanted)} set-up and start commands, all, in order, in the container",
        in_order(wanted, seen),
        seen,
    )
    proof.check(
        "no GPU is looked for on the head", not any("nvidia-smi --query" in text for text in seen), seen
    )
    return str(ip)


def check_files(proof: Proof, who: str, home: Path, token: str, cluster: dict[str, Any]) -> None:
    """What came to lie in a machine's home; there the set-up commands are then run for real."""
    copy = home / ".ray" / "auth_token"
    there = copy.is_file() and copy.read_text() == token
    proof.check(f"{who}: the token is there", there)
    if there:
        copy.chmod(0o640)
    lies = sorted(path.name for path in (home / "senca").iterdir()) if (home / "senca").is_dir() else []
    proof.check(
        f"{who}: the package, and nothing else of the folder",
        lies == sorted(["LICENSE", "README.md", "configs", "experiments", "pyproject.toml", "senca_ray"]),
        lies,
    )
    state = home.parent.parent
    environment = {
        "HOME": str(home),
        "PATH": f"{state / 'bin'}:/usr/bin:/bin",
        "PROOF_STATE": str(state),
        "PROOF_BY": who,
    }
    ended = [
        subprocess.run(
            ["bash", "-c", text], env=environment, cwd=home, capture_output=True, check=False
        ).returncode
        for text in cluster["setup_commands"] * 2
    ]
    proof.check(f"{who}: the set-up commands end well here, twice over", not any(ended), ended)
    proof.check(f"{who}: nothing was installed where all is there", not (state / "pip").exists())
    proof.check(
        f"{who}: the token is its owner's alone", there and stat.S_IMODE(copy.stat().st_mode) == 0o600
    )
    shown = run(["bash", "-c", ". ~/.bashrc; env"], environment)
    for line in (f"SENCA_STORAGE=s3://{BUCKET}/senca", "RAY_AUTH_MODE=token", "WANDB_MODE=offline"):
        proof.check(f"{who}: {line}", line in shown.splitlines())


def autoscale(wanted: int, expected: int, home: Path, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """Run the autoscaler in the head's home and return the machines that it set up."""
    script = f". ~/.senca_env && exec {BIN / 'python'} proofs/autoscaler_here.py {wanted} {expected}"
    head = dict(environment) | {"HOME": str(home), "PROOF_BY": "head"}
    printed = run(["bash", "-c", script], head)
    found = re.search(r"^MACHINES (.*)$", printed, re.MULTILINE)
    if not found:
        raise SystemExit(f"the autoscaler printed no machines: {printed[-2000:]}")
    machines: list[dict[str, str]] = json.loads(found.group(1))
    return machines


def check_workers(
    proof: Proof, cloud: Aws, cluster: dict[str, Any], group: str, head: Path, environment: Mapping[str, str]
) -> list[dict[str, str]]:
    """Machines come while trials wait, also when one kind is refused, and never more than max_workers."""
    first = autoscale(2, 2, head, environment)
    proof.check(
        "two trials wait: two machines of the cheaper kind",
        [m["type"] for m in first] == ["gpu_t4"] * 2,
        first,
    )
    cloud.refused = {"g4dn.xlarge"}
    second = autoscale(3, 3, head, environment)
    kinds = sorted(m["type"] for m in second)
    proof.check(
        "one kind refused: the next machine is of the other", kinds == ["gpu_a10g", "gpu_t4", "gpu_t4"], kinds
    )
    cloud.refused = set()
    most = cluster["max_workers"]
    third = autoscale(most + 6, most, head, environment)
    proof.check(
        f"more trials than that wait: {most} machines, no more",
        len(third) == most == len(cloud.machines()) - 1,
        third,
    )
    for asked in cloud.launches[1:]:
        good = (
            asked["InstanceMarketOptions.MarketType"] == "spot"
            and asked["IamInstanceProfile.Name"] == "senca-ray-worker"
            and asked["SecurityGroupId.1"] == group
            and asked["MetadataOptions.HttpTokens"] == "required"
            and asked["ImageId"].startswith("resolve:ssm:")
        )
        proof.check(f"a spot machine is asked for, {asked['InstanceType']}", good, asked)
    return third


def check_worker_setup(
    proof: Proof, cluster: dict[str, Any], machine: dict[str, str], transcript: list[dict[str, str]]
) -> None:
    """A worker's commands, and what its container and its Ray are given."""
    wanted = [in_container(text) for text in cluster["setup_commands"]]
    starts = [in_container(text) for text in cluster["worker_start_ray_commands"]]
    seen = commands(transcript, machine["ip"])
    proof.check(
        f"{machine['type']}: set-up and start commands, all, in order", in_order(wanted + starts, seen), seen
    )
    raw = [e["command"] for e in transcript if e["tool"] == "ssh" and e["host"] == machine["ip"]]
    gpu = any("docker run" in text and "--runtime=nvidia" in text for text in raw)
    told = any("RAY_OVERRIDE_RESOURCES" in text and '"GPU":1' in text for text in raw)
    proof.check(f"{machine['type']}: the container has the GPU, and Ray is told of it", gpu and told)


def gpu_check(proof: Proof, cluster: dict[str, Any]) -> None:
    """The check of a worker's GPU, on this machine, which is made to have none."""
    (text,) = (text for text in cluster["worker_start_ray_commands"] if "nvidia-smi" in text)
    for resources, expected in (('{"CPU":4,"GPU":1}', 1), ('{"CPU":4}', 0)):
        environment = {"PATH": "/nowhere", "RAY_OVERRIDE_RESOURCES": resources}
        ran = subprocess.run(
            ["/bin/bash", "-c", text], env=environment, capture_output=True, text=True, check=False
        )
        said = "no GPU that torch can use" in ran.stderr
        proof.check(
            f"without a GPU, {resources}: {'refused, and says why' if expected else 'joins'}",
            ran.returncode == expected and said == bool(expected),
            ran,
        )


def prove(proof: Proof, folder: Path, cloud: Aws) -> list[dict[str, str]]:
    """All of it; returns the transcript."""
    laptop, state = folder / "laptop", folder / "state"
    laptop.mkdir()
    state.mkdir()
    stand_ins(state / "bin")
    environment = {
        "HOME": str(laptop),
        "PATH": f"{state / 'bin'}:{BIN}:/usr/bin:/bin",
        "PROOF_STATE": str(state),
        "PROOF_BY": "laptop",
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_ACCESS_KEY_ID": "proof",
        "AWS_SECRET_ACCESS_KEY": "proof",
        "AWS_EC2_METADATA_DISABLED": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
    }
    file = folder / "cluster.yaml"
    ray = str(BIN / "ray")
    print("the laptop's token, the account")
    run([ray, "get-auth-token", "--generate"], environment)
    token = (laptop / ".ray" / "auth_token").read_text()
    file.write_text(edited(CLUSTER.read_text(), ""))
    group = account(proof, cloud, file, environment)
    file.write_text(edited(CLUSTER.read_text(), group))
    cluster = yaml.safe_load(file.read_text())

    print("ray up")
    up = run([ray, "up", str(file), "--no-config-cache", "-y"], environment)
    log = state / "transcript.jsonl"

    def transcript() -> list[dict[str, str]]:
        return [json.loads(line) for line in log.read_text().splitlines()]

    proof.check("ray up came to its end", "To terminate the cluster" in up, up[-500:])
    ip = check_head(proof, cloud, cluster, group, transcript())
    home = state / "homes" / ip
    check_files(proof, "head", home, token, cluster)

    print("the autoscaler on the head")
    machines = check_workers(proof, cloud, cluster, group, home, environment)
    for kind in ("gpu_t4", "gpu_a10g"):
        for machine in [m for m in machines if m["type"] == kind][:1]:
            check_worker_setup(proof, cluster, machine, transcript())
            check_files(proof, kind, state / "homes" / machine["ip"], token, cluster)
    gpu_check(proof, cluster)

    print("ray down")
    run([ray, "down", str(file), "-y"], environment)
    proof.check("ray down leaves no machine", not cloud.machines(), cloud.machines())
    bootstrap = (home / "ray_bootstrap_config.yaml").read_text()
    proof.check(
        "the token stands in no command and in no configuration", token not in log.read_text() + bootstrap
    )
    return transcript()


def main() -> None:
    proof = Proof()
    with tempfile.TemporaryDirectory() as folder, aws() as cloud:
        entries = prove(proof, Path(folder), cloud)
        shown = [
            {
                name: value.replace(folder, "").replace(str(ROOT), "")
                for name, value in (
                    entry | ({"command": unwrapped(entry["command"])[1]} if "command" in entry else {})
                ).items()
            }
            for entry in entries
        ]
    failed = [what for what, held in proof.checks.items() if not held]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(proof.checks)} checks failed: {'; '.join(failed)}")
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("ray", "moto", "boto3")}
        | {"python": platform.python_version()},
        "cores": os.cpu_count(),
        "checks": proof.checks,
        "launches": cloud.launches,
        "transcript": shown,
    }
    OUT.parent.mkdir(exist_ok=True)
    write_json(OUT, result)
    print(f"{len(proof.checks)} checks held; {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
