"""deploy/: the Slurm script with processes standing in for nodes, the KubeRay job against its schemas."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[1]
SBATCH = ROOT / "deploy" / "slurm.sbatch"
KUBERAY = ROOT / "deploy" / "kuberay.yaml"
KUBERNETES = "1.37.0"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# --- Slurm -------------------------------------------------------------------------------------------

# What `srun` runs stands after its options: a process here is a node there. `scancel` signals what it runs.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
echo $$ >>"$SEEN.steps"
SLURM_CPUS_ON_NODE=3 SLURM_GPUS_ON_NODE=2 exec "$@"
"""
# Keeps what it was given; the head listens where it was told to, until it is ended.
RAY = """#!/bin/bash
for given; do case $given in
  --port=*) port=${given#--port=} ;;
  --temp-dir=*) mkdir -p "${given#--temp-dir=}" ;;
esac; done
stat -c 'token %a %n' "$RAY_AUTH_TOKEN_PATH" >>"$SEEN"
echo "ray $RAY_AUTH_MODE $*" >>"$SEEN"
exec REAL -SIc "import socket, signal; s = socket.create_server(('127.0.0.1', ${port:-0})); signal.pause()"
"""
# The script asks it for a token, for free ports, and for the number of Ray nodes; last comes the experiment.
PYTHON = """#!/bin/bash
case $1 in
  -c) exec REAL -SI "$@" ;;
  -) if [[ $(cat) == *get_node_ip_address* ]]; then
       REAL -SIc "import socket
free = [socket.create_server(('127.0.0.1', 0)) for _ in range(2)]
print('127.0.0.1', *(one.getsockname()[1] for one in free))"
     else until [[ $(grep -c '^ray' "$SEEN") == 2 ]]; do sleep 0.1; done; fi ;;
  *) echo "experiment at $RAY_ADDRESS: $*" >>"$SEEN"; exec REAL -SI "$@" ;;
esac
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >>"$SEEN"
"""
SCANCEL = """#!/bin/bash
[[ $* == "--signal=TERM 7" ]] && kill $(cat "$SEEN.steps") 2>/dev/null
"""


class Cluster:
    """A folder to submit from, stand-ins for Slurm and Ray, and what they have seen."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen_file = folder, folder / "seen"
        self.seen_file.touch()
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        stand_ins = {"srun": SRUN, "scontrol": SCONTROL, "scancel": SCANCEL, "ray": RAY, "python": PYTHON}
        for name, text in stand_ins.items():
            (programs / name).write_text(text.replace("REAL", sys.executable))
            (programs / name).chmod(0o755)
        (programs / "activate").write_text(f"PATH={programs}:$PATH\n")

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        """Run the script as Slurm would on the first of two nodes."""
        slurm = {
            "SLURM_JOB_ID": "7",
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURMD_NODENAME": "n1",
            "SLURM_CPUS_PER_TASK": "3",
            "SLURM_MEM_PER_NODE": "1000",
        }
        return subprocess.Popen(
            ["bash", SBATCH, *command],
            env={"PATH": os.environ["PATH"], "SEEN": str(self.seen_file), **slurm, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Whoever runs the tests may have told them to ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def seen(self) -> str:
        return self.seen_file.read_text()

    def experiment(self, text: str) -> str:
        (self.folder / "experiment.py").write_text(text)
        return str(self.folder / "experiment.py")

    def until_experiment(self, job: subprocess.Popen[str]) -> None:
        while "experiment at" not in self.seen():
            assert job.poll() is None, job.communicate()[0]
            time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_slurm_script_is_sound_bash() -> None:
    subprocess.run(["bash", "-n", SBATCH], check=True)
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent)
    checked = subprocess.run([shellcheck, SBATCH], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_slurm_reads_all_options_of_the_script() -> None:
    """sbatch stops reading at the first line that is no comment."""
    lines = SBATCH.read_text().splitlines()
    first_command = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    options = [n for n, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert options and max(options) < first_command


def test_slurm_job_runs_the_experiment_on_all_nodes_and_leaves_nothing(cluster: Cluster) -> None:
    before = set(Path("/tmp").glob("senca-??????"))
    experiment = cluster.experiment("import sys; print('arguments', sys.argv[1:]); sys.exit(3)")
    job = cluster.start(experiment, "--seeds", "2")
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 3, said  # the experiment's own
    assert "arguments ['--seeds', '2']" in said
    seen = cluster.seen()
    head, worker = sorted(re.findall(r"^ray token start (.*)", seen, re.M), key=lambda at: "--head" not in at)
    port = re.search(r"--port=(\d+)", head)[1]
    assert f"--address=127.0.0.1:{port}" in worker and f"experiment at 127.0.0.1:{port}:" in seen
    for node in (head, worker):
        assert "--num-cpus=3 --num-gpus=2" in node
        assert f"--memory={700 * 2**20} --object-store-memory={300 * 2**20}" in node
        assert "--min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0" in node
    assert re.findall(r"^token (\d+) .*/\.slurm-7/token$", seen, re.M) == ["600", "600"]
    assert not re.search(r"\b[0-9a-f]{32,}\b", seen + said)  # no token among arguments, none in the log
    assert not list(cluster.folder.glob(".slurm-*"))
    assert set(Path("/tmp").glob("senca-??????")) <= before


def test_slurm_job_near_its_time_limit_stops_the_experiment_and_is_started_again(cluster: Cluster) -> None:
    experiment = cluster.experiment(
        "import time\ntry:\n    print('at work', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('stopped as with Ctrl-C', flush=True); raise SystemExit(130)\n"
    )
    job = cluster.start(experiment)
    assert job.stdout
    while (line := job.stdout.readline()) != "at work\n":
        assert line, "the job ended before its experiment began"
    job.send_signal(signal.SIGUSR1)
    said = job.communicate(timeout=60)[0]
    assert "stopped as with Ctrl-C" in said and "go on with the same command" in said
    assert "scontrol requeue 7" in cluster.seen()
    assert not list(cluster.folder.glob(".slurm-*"))


def test_slurm_job_that_was_stopped_too_often_is_not_started_again(cluster: Cluster) -> None:
    job = cluster.start(cluster.experiment("import time; time.sleep(60)"), SLURM_RESTART_COUNT="20")
    cluster.until_experiment(job)
    job.send_signal(signal.SIGUSR1)
    assert "go on with the same command" in job.communicate(timeout=60)[0]
    assert "scontrol" not in cluster.seen()


def test_cancelled_slurm_job_takes_its_nodes_and_its_token_away(cluster: Cluster) -> None:
    job = cluster.start(cluster.experiment("import time; time.sleep(60)"))
    cluster.until_experiment(job)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=60)  # its output ends when all its processes have
    assert job.returncode == 143
    assert not list(cluster.folder.glob(".slurm-*"))


@pytest.mark.parametrize(
    ("job", "command", "fix"), [("", ["x.py"], "submit it: sbatch"), ("7", [], "which experiment?")]
)
def test_slurm_script_used_wrongly_says_how(cluster: Cluster, job: str, command: list[str], fix: str) -> None:
    script = cluster.start(*command, SLURM_JOB_ID=job)
    assert fix in script.communicate(timeout=60)[0] and script.returncode == 2


# --- KubeRay -----------------------------------------------------------------------------------------

_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 0}
_POD = {"type": "object"}  # checked against Kubernetes' own schema below


def _only(required: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


# What KubeRay 1.5.1 and newer read of a RayJob, as far as it is used here: a name written wrong is refused.
RAY_JOB = _only(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=_only(
        "name", name={"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47}
    ),
    spec=_only(
        "entrypoint rayClusterSpec",
        entrypoint={"type": "string"},
        activeDeadlineSeconds={"type": "integer", "minimum": 1},
        backoffLimit=_COUNT,
        shutdownAfterJobFinishes={"type": "boolean"},
        ttlSecondsAfterFinished=_COUNT,
        submitterConfig=_only("", backoffLimit=_COUNT),
        submitterPodTemplate=_POD,
        rayClusterSpec=_only(
            "rayVersion headGroupSpec",
            rayVersion={"type": "string"},
            authOptions=_only("", mode={"enum": ["disabled", "token"]}),
            enableInTreeAutoscaling={"type": "boolean"},
            autoscalerOptions=_only(
                "",
                version={"enum": ["v1", "v2"]},
                idleTimeoutSeconds=_COUNT,
                resources={"type": "object"},
                securityContext={"type": "object"},
            ),
            headGroupSpec=_only(
                "rayStartParams template",
                serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
                rayStartParams=_TEXTS,
                template=_POD,
            ),
            workerGroupSpecs={
                "type": "array",
                "items": _only(
                    "groupName minReplicas maxReplicas rayStartParams template",
                    groupName={"type": "string"},
                    replicas=_COUNT,
                    minReplicas=_COUNT,
                    maxReplicas=_COUNT,
                    rayStartParams=_TEXTS,
                    template=_POD,
                ),
            },
        ),
    ),
)


@pytest.fixture(scope="module")
def documents() -> tuple[dict[str, Any], dict[str, Any]]:
    account, job = yaml.safe_load_all(KUBERAY.read_text())
    return account, job


def _pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    workers = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    head, submitter = cluster["headGroupSpec"]["template"], job["spec"]["submitterPodTemplate"]
    return {"head": head, "submitter": submitter, **workers}


def _check(job: dict[str, Any]) -> None:
    jsonschema.validate(job, RAY_JOB)
    options = job["spec"]["rayClusterSpec"]["autoscalerOptions"]
    autoscaler = {"name": "autoscaler", **{name: options[name] for name in ("resources", "securityContext")}}
    pods = [*_pods(job).values(), {"spec": {"containers": [autoscaler]}}]
    for pod in pods:
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **pod}
        kubernetes_validate.validate(whole, KUBERNETES, strict=True)


def test_kuberay_job_fits_its_schemas(documents: tuple[dict[str, Any], dict[str, Any]]) -> None:
    account, job = documents
    kubernetes_validate.validate(account, KUBERNETES, strict=True)
    _check(job)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("shutdownAfterJobFinishes", "shutdownAfterFinish"),
        ("tolerations", "toleration"),
        ('num-cpus: "0"', "num-cpus: 0"),
        ("mode: token", "mode: tokens"),
        ("runAsUser: 1000", "runAsUser: ray"),
    ],
)
def test_a_field_written_wrong_is_found(right: str, wrong: str) -> None:
    text = KUBERAY.read_text()
    assert right in text
    with pytest.raises(jsonschema.ValidationError):
        _check(list(yaml.safe_load_all(text.replace(right, wrong)))[1])


def test_ray_reads_the_kuberay_cluster_as_it_is_meant(
    documents: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    """A head without trials, GPU workers from none to a few: through Ray's own reading of the resource."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.util import validate_config

    spec = documents[1]["spec"]["rayClusterSpec"]
    resource = {"kind": "RayCluster", "metadata": {"name": "senca", "namespace": "lab"}, "spec": spec}
    config = _derive_autoscaling_config_from_ray_cr(resource)
    validate_config(config)
    head = config["available_node_types"]["headgroup"]
    assert head["resources"]["CPU"] == 0 and "GPU" not in head["resources"]
    gpu = config["available_node_types"]["gpu"]
    assert gpu["resources"]["GPU"] == 1
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, 4)


def test_kuberay_job_is_closed_guarded_and_keyless(
    documents: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    account, job = documents
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert (
        spec["shutdownAfterJobFinishes"] and spec["activeDeadlineSeconds"] and spec["ttlSecondsAfterFinished"]
    )
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    pods = _pods(job)
    for pod in pods.values():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["requests"] == container["resources"]["limits"]
    for name in ("head", "gpu"):
        assert pods[name]["spec"]["serviceAccountName"] == account["metadata"]["name"]
        (container,) = pods[name]["spec"]["containers"]
        given = {variable["name"]: variable["value"] for variable in container["env"]}
        assert given["SENCA_STORAGE"].startswith("s3://")
        assert not [variable for variable in given if re.search("KEY|TOKEN|SECRET|PASSWORD", variable)]
    (toleration,) = pods["gpu"]["spec"]["tolerations"]
    assert toleration["key"] == "nvidia.com/gpu"


def test_versions_and_names_of_the_files_are_those_of_the_package(
    documents: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    pin = next(re.search(r"==(.+)", one)[1] for one in PROJECT["dependencies"] if one.startswith("ray["))
    spec = documents[1]["spec"]
    assert spec["rayClusterSpec"]["rayVersion"] == pin
    images = {pod["spec"]["containers"][0]["image"] for pod in _pods(documents[1]).values()}
    assert images == {f"REGISTRY/senca-ray:{PROJECT['version']}"}
    script = spec["entrypoint"].split()[1]
    assert (ROOT / Path(script).relative_to("/home/ray/senca")).is_file()


@pytest.mark.parametrize("file", [SBATCH, KUBERAY], ids=["slurm", "kuberay"])
def test_no_secret_is_written_into_the_files(file: Path) -> None:
    assert not re.search(r"AKIA[0-9A-Z]{16}|\b[0-9a-f]{32,}\b|-----BEGIN", file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) & 0o002 == 0
