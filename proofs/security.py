"""Proof: what listens where, who is refused, and that no secret is left lying about. See docs/security.md.

Three hosts of this machine (see hosts.py): a laptop with a study of its own, and the head and the worker of
a cluster that it brings up with `ray up cluster.yaml`. On each, every listening port of every process is
listed. Those of the cluster are then asked, without a token and with a wrong one: by the laptop, or by their
own machine where they listen on its loopback interface. A job is sent from a shell whose environment holds
secrets; all files of all hosts, all command lines and what the cluster tells of its jobs are searched for
them and for the token.

Linux and root; `apt-get install -y iproute2 openssh-server rsync`.
"""

from __future__ import annotations

import datetime
import json
import os
import shlex
from pathlib import Path
from typing import Any

from cluster_here import Cluster, cluster_here
from hosts import ROOT, Host, network, storage
from rich.console import Console
from rich.table import Table

from senca_ray.files import write_json
from senca_ray.study.trial import versions

RESULT = ROOT / "proofs/results/security.json"

SECRETS = {
    "WANDB_API_KEY": "ca4a12ec0de00000000000000000000000000002",
    "AWS_SECRET_ACCESS_KEY": "canary/secret/of/the/storage/91c4e7",
    "AWS_SESSION_TOKEN": "canary-session-of-the-storage-5502fd",
}
"""Made up for this proof; a user may have such in the environment."""

# Runs on a host: every listening port, with the process that has it.
_LIST = r"""
import json, psutil
found = []
for process in psutil.process_iter():
    try:
        ports, command = process.net_connections("inet"), " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        continue
    for port in ports:
        if port.status == psutil.CONN_LISTEN or (port.type == 2 and not port.raddr):
            found.append((process.name(), command, port.laddr.ip, port.laddr.port))
print(json.dumps(found), flush=True)
"""

# Runs on a host: asks ports, given as [[address, port], ...], without a token and with a wrong one.
_ASK = r"""
import http.client, json, sys
import grpc
METHODS = [
    "NodeInfoGcsService/GetAllNodeInfo", "NodeManagerService/GetSystemConfig", "CoreWorkerService/PushTask",
    "ObjectManagerService/Pull", "ReporterService/GetTraceback", "JobInfoGcsService/GetAllJobInfo",
    "RayletDriver/ClusterInfo",
]
def web(address, port, token):
    asked = {}
    for path in ("/api/jobs/", "/api/job_agent/jobs/", "/metrics", "/get_or_create_runtime_env"):
        line = http.client.HTTPConnection(address, port, timeout=5)
        try:
            line.request("GET", path, headers={"Authorization": "Bearer " + token} if token else {})
            said = line.getresponse()
            asked[path] = "measurements" if said.read().startswith(b"# HELP") else said.status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            line.close()
    return asked
def calls(address, port, token):
    channel = grpc.insecure_channel(f"{address}:{port}")
    said = set()
    for method in METHODS:
        try:
            channel.unary_unary("/ray.rpc." + method)(
                b"", metadata=[("authorization", "Bearer " + token)] if token else [], timeout=5)
            said.add("OK")
        except grpc.RpcError as error:
            said.add(error.code().name)
    channel.close()
    return sorted(said)
answers = {}
for address, port in json.loads(sys.argv[1]):
    both = {}
    for who, token in (("nobody", ""), ("somebody", "0" * 64)):
        found = web(address, port, token)
        both[who] = {"http": found} if found else {"grpc": calls(address, port, token)}
    answers[f"{address}:{port}"] = both
print(json.dumps(answers))
"""

# A study's own Ray, with a trial's worker: what listens, and what it says to who asks.
_STUDY = rf"""
import subprocess, sys
from senca_ray import cluster
with cluster.connected():
    import ray
    @ray.remote
    class Worker:
        def there(self): return True
    worker = Worker.remote()
    ray.get(worker.there.remote())
{"".join("    " + line + chr(10) for line in _LIST.strip().splitlines())}
    asked = json.dumps([["127.0.0.1", port] for process, _, _, port in found if process != "sshd"])
    subprocess.run([sys.executable, "ask.py", asked], check=True)
"""

_ROLES = (
    ("sshd", "ssh"),
    ("gcs_server", "Ray's head service (GCS)"),
    ("dashboard/dashboard.py", "dashboard"),
    ("monitor.py", "autoscaler"),
    ("util.client.server", "Ray client server"),
    ("DashboardAgent", "node agent"),
    ("RuntimeEnvAgent", "environment agent"),
    ("raylet/raylet", "raylet"),
)
"""What a command line tells of its process; everything else is a driver or a worker."""
_MEASUREMENTS = "measurements"
_WORDS = {_MEASUREMENTS: "no: reads only"}
_FIXED = {22, 6379, 8265, 10001, 44217, 44227, 52365}
_WORKERS = range(10002, 20000)


def main() -> None:
    """Print the table and what was found; SystemExit where a promise of docs/security.md does not hold."""
    with network() as hosts, storage(hosts.address) as s3, cluster_here(hosts, s3, workers=1) as cluster:
        token = cluster.laptop.run("cat ~/.ray/auth_token").stdout.strip()
        say("the cluster is up: looking at a study of the laptop's own, the head and the worker")
        rows = [row for name, host in _machines(cluster) for row in looked_at(name, host, cluster.laptop)]
        print_table(rows)
        problems = [*opened(rows), *joined(cluster), *web_answers(cluster, token)]
        problems += left_behind(cluster, hosts.folder, token)
    for problem in problems:
        say(f"PROBLEM: {problem}")
    if problems:
        raise SystemExit(f"{len(problems)} problems")
    RESULT.parent.mkdir(exist_ok=True)
    write_json(
        RESULT,
        {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "cores": os.cpu_count(),
            "versions": versions(),
            "ports": rows,
            "secrets_searched": [*SECRETS, "token"],
            "secrets_found": 0,
        },
    )
    say(f"everything holds; written to {RESULT.relative_to(ROOT)}")


def _machines(cluster: Cluster) -> list[tuple[str, Host]]:
    return [("study", cluster.laptop), ("head", cluster.head), ("worker", cluster.workers[0])]


def looked_at(name: str, host: Host, outside: Host) -> list[dict[str, Any]]:
    """A row for each kind of listening port of a machine; ports by chance of one process are one kind."""
    host.write("ask.py", _ASK)
    if name == "study":
        host.write("study.py", _STUDY)
        said = host.run("cd ~ && python study.py").stdout
        # Ray may have something to say, too.
        lines = [line for line in said.splitlines() if line.startswith(("[[", "{"))]
        if len(lines) != 2:
            raise SystemExit(f"the study's ports were not told:\n{said}")
        found, answers = map(json.loads, lines)
    else:
        host.write("list.py", _LIST)
        found = json.loads(host.run("python ~/list.py").stdout.strip().splitlines()[-1])
        answers = ask(host, [p for p in found if _loopback(p[2])], "127.0.0.1")
        answers |= ask(outside, [p for p in found if not _loopback(p[2])], host.address)
    kinds: dict[tuple[str, ...], dict[str, Any]] = {}
    for process, command, address, port in found:
        where = "loopback" if _loopback(address) else ("all" if address in ("::", "0.0.0.0") else "private")
        said = answers.get(f"{'127.0.0.1' if where == 'loopback' else host.address}:{port}")
        token = "keys" if process == "sshd" else _token(said)
        role = next((role for mark, role in _ROLES if mark in f"{process} {command}"), "driver or worker")
        if token == _MEASUREMENTS:
            role = f"measurements ({role})"
        kind = (role, where, _port(port, role), token)
        row = {"on": name, "what": role, "port": kind[2], "listens": where, "token": token, "answers": said}
        kinds.setdefault(kind, row)
    return [kinds[kind] for kind in sorted(kinds)]


def ask(host: Host, ports: list[tuple[str, str, str, int]], address: str) -> dict[str, Any]:
    """What ports at `address` say to who has no token, and to who has a wrong one, asked from `host`."""
    asked = json.dumps([[address, port] for process, _, _, port in ports if process != "sshd"])
    said = host.run(f"python ~/ask.py {shlex.quote(asked)}").stdout
    return dict(json.loads(said.strip().splitlines()[-1]))


def _loopback(address: str) -> bool:
    return address == "::1" or address.removeprefix("::ffff:").startswith("127.")


def _port(port: int, role: str) -> str:
    if port in _FIXED:
        return str(port)
    return "10002-19999" if port in _WORKERS and role == "driver or worker" else "by chance"


def _token(said: dict[str, Any] | None) -> str:
    """Whether a port asks for the token, in words, from what it said without one and with a wrong one."""
    if said is None:
        return "not asked"
    codes = {code for both in said.values() for code in (both.get("http") or {}).values()}
    calls = {code for both in said.values() for code in both.get("grpc", ())}
    if codes == {_MEASUREMENTS}:
        return _MEASUREMENTS
    if 200 in codes or "OK" in calls:
        return "NO"
    return "yes" if codes & {401, 403} or "UNAUTHENTICATED" in calls else "not told"


def print_table(rows: list[dict[str, Any]]) -> None:
    """The table of docs/security.md."""
    table = Table("on", "what", "port", "listens on", "asks for the token")
    for row in rows:
        table.add_row(
            row["on"], row["what"], row["port"], row["listens"], _WORDS.get(row["token"], row["token"])
        )
    Console(width=110).print(table)


def opened(rows: list[dict[str, Any]]) -> list[str]:
    """What is open that should not be."""
    problems = []
    for row in rows:
        name = f"{row['on']}: {row['what']}, port {row['port']}"
        if row["on"] == "study" and row["listens"] != "loopback" and row["what"] != "ssh":
            problems.append(f"{name} listens on {row['listens']}")
        if row["port"] == "8265" and row["listens"] != "loopback":
            problems.append(f"{name} listens on {row['listens']}")
        if row["token"] not in ("yes", "keys", _MEASUREMENTS):
            problems.append(f"{name}, does not ask for the token ({row['token']}): {row['answers']}")
    return problems


def joined(cluster: Cluster) -> list[str]:
    """Who joined the cluster from the laptop, but should not have."""
    address = f"{cluster.head.address}:6379"
    init = shlex.quote(
        f"import ray; ray.init({address!r}, log_to_driver=False); print('joined', ray.nodes())"
    )
    problems = []
    for who, variables in (
        ("without a token", "RAY_AUTH_MODE=disabled"),
        ("with a wrong token", f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN={'0' * 64}"),
    ):
        ran = cluster.laptop.run(f"{variables} timeout 120 python -c {init}", check=False)
        say(f"joining {who}: {'joined' if 'joined [' in ran.stdout else 'refused'}")
        if "joined [" in ran.stdout:
            problems.append(f"the cluster lets in who comes {who}")
    return problems


def web_answers(cluster: Cluster, token: str) -> list[str]:
    """Whether the Jobs API refuses whom it should; the token travels by a file, not by a command line."""
    cluster.head.write("header", f"Authorization: Bearer {token}\n")
    curl = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8265/api/jobs/"
    headers = {
        "no token": "",
        "a wrong token": f" -H 'Authorization: Bearer {'0' * 64}'",
        "the token": " -H @header",
    }
    found = {who: cluster.head.run(f"cd ~ && {curl}{header}").stdout[-3:] for who, header in headers.items()}
    cluster.head.run("rm ~/header")
    say(f"the Jobs API says {found}")
    expected = {"no token": "401", "a wrong token": "403", "the token": "200"}
    return [] if found == expected else [f"the Jobs API: {found} found, {expected} expected"]


def left_behind(cluster: Cluster, disks: Path, token: str) -> list[str]:
    """Where secrets of a submitting shell, or the token, lie after a job."""
    mine = "'canary' in v or 'ca4a12ec' in v"
    job = f"import os; print('seen:', sum({mine} for v in os.environ.values()))"
    # By a file, so that the shell's own command line holds none.
    cluster.head.write("secrets", "\n".join(f"export {name}={value}" for name, value in SECRETS.items()))
    submit = f"ray job submit --address http://127.0.0.1:8265 -- python -c {shlex.quote(job)}"
    ran = cluster.head.run(f". ~/secrets; rm ~/secrets; {submit}")
    problems = [] if "seen: 0" in ran.stdout else [f"the job's environment: {ran.stdout[-500:]}"]
    sought = {**SECRETS, "token": token}
    # What a machine tells to its other users, and the cluster to who holds the token.
    for name, host in _machines(cluster):
        shown = host.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", check=False).stdout
        problems += [
            f"{name}: {what} in a command line" for what, secret in sought.items() if secret in shown
        ]
    told = cluster.head.run(
        "ray list jobs --detail; ray list runtime-envs --detail; ray list workers --detail"
    ).stdout
    problems += [f"{what} in what `ray list` tells" for what, secret in sought.items() if secret in told]
    looked = 0
    for path in disks.rglob("*"):
        if not path.is_file() or path.is_symlink() or path.match("*/.ray/auth_token"):
            continue
        content = path.read_bytes()
        looked += 1
        problems += [f"{what} in {path}" for what, secret in sought.items() if secret.encode() in content]
    for path in disks.glob("*/home/.ray/auth_token"):
        if path.stat().st_mode & 0o077:
            problems.append(f"{path}: others may read it")
    say(f"searched {looked} files of {len(cluster.workers) + 2} hosts for {', '.join(sought)}")
    if looked < 50:
        problems.append(f"only {looked} files were there to be searched")
    return problems


def say(text: str) -> None:
    """One line of what happens."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
