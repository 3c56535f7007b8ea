"""The way to a cluster's dashboard: it listens on the head's loopback alone, so through an ssh tunnel."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from senca_ray.cloud.cluster_file import read_cluster_file
from senca_ray.errors import SencaError

DASHBOARD_PORT = 8265
"""Where the dashboard listens on the head; Ray's default."""

_CONNECT = 20
"""Seconds for ssh to connect."""
_OPEN = "tunnel open"
_END = 5.0
"""Seconds for ssh to end by itself."""


class Lost(SencaError):
    """The cluster does not answer now; it may in a while."""


@dataclass(frozen=True)
class Head:
    """How ssh gets to the head of a cluster."""

    target: str
    """USER@ADDRESS"""
    options: tuple[str, ...]
    """Key, host key checking and proxy, as Ray itself gives them to ssh."""


@contextmanager
def dashboard(address: str | None, cluster: Path) -> Iterator[Callable[[], str]]:
    """What gives the URL of a cluster's dashboard: `address`, else a tunnel to the head of a cluster file.

    Asked again it opens a tunnel that has closed anew, under another port; the tunnel ends with the block.
    Raises SencaError for a wrong address and where Ray finds no running head; asking raises Lost.
    """
    if address is not None:
        url = _checked(address)
        yield lambda: url
        return
    tunnel = Tunnel(find_head(cluster))
    try:
        yield tunnel.url
    finally:
        tunnel.close()


def _checked(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise SencaError(
            f"--address: {address.rpartition('@')[2]!r} found; expected the URL of the cluster's dashboard, "
            f"for example http://127.0.0.1:{DASHBOARD_PORT}"
        )
    return address.rstrip("/")


def find_head(path: Path) -> Head:
    """The running head of the cluster that a file describes, as Ray knows it; raises SencaError."""
    if not path.exists():
        raise SencaError(
            f"{path}: no such file; give --cluster, the file that `ray up` takes, or --address, the URL of a "
            "dashboard that is reached already"
        )
    file = read_cluster_file(path)
    from ray.autoscaler import sdk
    from ray.autoscaler._private.command_runner import SSHOptions

    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            # First whether it is up: looking for its key would make what a new cluster needs.
            ip = sdk.get_head_node_ip(str(path))
            auth = dict(file.raw.get("auth") or {})
            if "ssh_private_key" not in auth and file.provider != "local":
                auth = dict(sdk.bootstrap_config(dict(file.raw))["auth"])
    except (Exception, SystemExit) as error:  # clouds raise what they like
        why = " ".join(str(error).split()) or type(error).__name__
        raise SencaError(
            f"{path}: Ray finds no running head of cluster {file.name!r} ({why:.300}); bring it up with "
            f"`ray up {path}`, or give --address of a dashboard that is reached already"
        ) from error
    key = auth.get("ssh_private_key")
    options = SSHOptions(
        str(Path(key).expanduser()) if key else None, ProxyCommand=auth.get("ssh_proxy_command")
    )
    return Head(f"{auth.get('ssh_user')}@{ip}", tuple(options.to_ssh_options_list(timeout=_CONNECT)))


class Tunnel:
    """An ssh tunnel from a port of this machine's loopback to the dashboard."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._port = 0
        self._ssh: subprocess.Popen[str] | None = None

    def url(self) -> str:
        """URL of the dashboard at this end, opening the tunnel where it is closed; raises Lost."""
        if self._ssh is None or self._ssh.poll() is not None:
            self._open()
        return f"http://127.0.0.1:{self._port}"

    def _open(self) -> None:
        self.close()
        self._port = _free_port()
        forward = f"127.0.0.1:{self._port}:127.0.0.1:{DASHBOARD_PORT}"
        command = ["ssh", "-T", *self._head.options, "-o", "BatchMode=yes", "-o", "Compression=yes"]
        command += ["-o", "ControlPath=none"]  # whatever the user keeps open is not ours to close
        # `cat` ends with its input, which ends with this process, however that ends: no ssh is left behind.
        command += ["-L", forward, self._head.target, f"echo {_OPEN} && exec cat"]
        with tempfile.TemporaryFile("w+") as errors:
            try:
                # In a session of its own: Ctrl-C is for us.
                self._ssh = subprocess.Popen(  # noqa: S603  what the cluster file says
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise SencaError("no `ssh` on this machine; install OpenSSH's client") from None
            assert self._ssh.stdout is not None
            # The command starts when the port is bound: before, the port could be somebody else's.
            if not any(line.strip() == _OPEN for line in iter(self._ssh.stdout.readline, "")):
                self.close()
                raise Lost(
                    f"ssh to {self._head.target}: {_last(errors)}; try `ray attach`, which connects the same "
                    "way (a key with a passphrase has to be added to the agent: `ssh-add`)"
                )

    def close(self) -> None:
        """End the tunnel."""
        if self._ssh is None:
            return
        assert self._ssh.stdin is not None and self._ssh.stdout is not None
        self._ssh.terminate()
        try:
            self._ssh.wait(_END)
        except subprocess.TimeoutExpired:
            self._ssh.kill()
            self._ssh.wait()
        self._ssh.stdin.close()
        self._ssh.stdout.close()
        self._ssh = None


def _last(errors: IO[str]) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    return lines[-1] if lines else "ended without a word"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
