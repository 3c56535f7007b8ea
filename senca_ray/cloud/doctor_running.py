"""What `senca doctor` asks a running cluster through its dashboard: whether it answers, and its versions."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

import requests

from senca_ray.cloud.doctor import SERVER_TIMES, CannotLook, Check, Verdict, failed, passed, warning
from senca_ray.cloud.doctor_machine import request_token


def running_checks(address: str) -> list[Check]:
    """Checks of the cluster whose dashboard is at `address`."""
    return [
        Check("running cluster: Ray", lambda: ray_there(address)),
        Check("running cluster: Python", lambda: python_there(address)),
    ]


def ray_there(address: str) -> Verdict:
    """Whether the cluster answers, takes this machine's token and runs the same Ray."""
    here = metadata.version("ray")
    if not address.startswith(("http://", "https://")):
        return failed(
            address,
            "the dashboard's address, for example http://127.0.0.1:8265",
            "ray dashboard cluster.yaml, then --address http://127.0.0.1:8265",
        )
    try:
        answer = _get(address, "/api/version")
    except requests.RequestException as error:
        return failed(
            f"nothing answers at {address} ({type(error).__name__})",
            "a dashboard",
            "ray dashboard cluster.yaml in another terminal; ray up cluster.yaml where no cluster runs",
        )
    if answer.status_code in (401, 403):
        return failed(
            f"{address} refuses this machine's token (status {answer.status_code})",
            "the token that the cluster was started with in ~/.ray/auth_token",
            "copy ~/.ray/auth_token from the machine that ran `ray up`, then chmod 600 ~/.ray/auth_token",
        )
    there = _json(answer).get("ray_version")
    if not isinstance(there, str):
        return failed(
            f"{address} answers, not as a Ray dashboard (status {answer.status_code})",
            "the address of a Ray dashboard",
            "ray dashboard cluster.yaml, then the address that it prints",
        )
    if there != here:
        return failed(
            f"ray {there} there, ray {here} here", "the same", f"{sys.executable} -m pip install ray=={there}"
        )
    return passed(f"ray {there}, as here")


def python_there(address: str) -> Verdict:
    """Whether the cluster's Python is this one's minor version."""
    try:
        metadata_there = _json(_get(address, "/api/v0/cluster_metadata")).get("data")
    except requests.RequestException as error:
        raise CannotLook(f"no answer from {address} ({type(error).__name__})") from None
    there = metadata_there.get("pythonVersion") if isinstance(metadata_there, dict) else None
    if not isinstance(there, str):
        raise CannotLook("the cluster does not tell its Python")
    return compare_python(there, "the running cluster")


def compare_python(there: str, where: str) -> Verdict:
    """`there` is 3.11 or 3.11.7: what was pickled by one minor version may not open in another."""
    here = "{}.{}".format(*sys.version_info)
    if there.split(".")[:2] == here.split("."):
        return passed(f"{there}, here {here}")
    return warning(
        f"{there} in {where}, {here} here",
        "the same: checkpoints may not open in another",
        f"take an image of Python {here}, or work in a Python {there} here",
    )


def _get(address: str, path: str) -> requests.Response:
    token = request_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with requests.Session() as session:
        # The token is for this address alone: for no proxy, and nowhere that it sends us on to.
        session.trust_env = False
        url = address.rstrip("/") + path
        return session.get(url, headers=headers, timeout=SERVER_TIMES, allow_redirects=False)


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
