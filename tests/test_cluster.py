"""Who may talk to the Ray that we start, and what is said when one cannot be reached."""

import os
import subprocess
import sys

LOCAL = """
import os, subprocess, sys
from senca_ray import cluster
with cluster.connected():
    import ray
    address = ray.get_runtime_context().gcs_address
    join = [sys.executable, "-c", f"import ray; ray.init({address!r}, log_to_driver=False); print('joined')"]
    # Without this switch Ray would look for it where it is not: at this machine's outer address.
    inside = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    for mode in ("token", "disabled"):
        ran = subprocess.run(join, env=inside | {"RAY_AUTH_MODE": mode}, capture_output=True, text=True)
        print(mode, "joined" in ran.stdout)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120)


def test_the_local_cluster_answers_only_to_who_holds_its_token() -> None:
    ran = run(LOCAL)
    assert "token True" in ran.stdout, ran.stderr
    assert "disabled False" in ran.stdout


def test_a_cluster_that_is_not_there_is_told_in_words() -> None:
    code = "from senca_ray import cluster, errors\ntry:\n  cluster.connected('127.0.0.1:1').__enter__()\n"
    code += "except errors.SencaError as error:\n  print(error)"
    ran = run(code)
    assert "the Ray cluster 127.0.0.1:1 cannot be reached" in ran.stdout, ran.stderr
    assert "ray start --head" in ran.stdout
