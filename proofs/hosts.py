"""Hosts on one machine, for proofs that need a network, ssh and machines that die. Linux and root only.

A host is a set of namespaces on a bridge, with an sshd as its first process. Its own are: address, host name,
processes, home, /tmp, /run, /dev/shm, and a layer over the Python environment, so that what is installed on
it is seen nowhere else. Shared with this machine are the kernel, its cores and all other files. From a host
only the bridge can be reached, where the storage listens, too. Nothing is left behind, whatever ends the
block.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[1]

_PACKAGES = {
    "ip": "iproute2",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "unshare": "util-linux",
    "mount": "mount",
}
"""Programs that a host is made with, and the Debian package of each."""
_PATIENCE = 60.0
"""Seconds for a host to answer: much more than a slow machine needs."""

_SSHD = """Port 22
ListenAddress {address}
HostKey /run/sshd/host_key
PidFile none
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
"""

# $1 address, $2 name, $3 disk, $4 Python environment, $5 home; then what has to stay in sight.
_BOOT = r"""set -e
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip link set lo up
ip address add "$1/24" dev eth0
ip link set eth0 up
# Leads nowhere, but from it Ray learns the host's own address.
ip route add default dev eth0
hostname "$2"
disk=$3 venv=$4 home=$5
shift 5
mount -t overlay overlay -o "lowerdir=$venv,upperdir=$disk/upper,workdir=$disk/work" "$venv"
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/sshd
cp "$disk/sshd_config" "$disk/host_key" /run/sshd/
mount -t tmpfs tmpfs /dev/shm
mount --bind "$disk/hosts" /etc/hosts
for kept in "$@"; do
  case "$kept" in
    "$home"/*) under="$disk/home${kept#"$home"}" ;;
    /tmp/*) under="$disk/tmp${kept#/tmp}" ;;
    *) continue ;;
  esac
  mkdir -p "$under"
  mount --rbind "$kept" "$under"
done
mount --rbind "$disk/home" "$home"
mount --rbind "$disk/tmp" /tmp
cd "$home"
exec "$(command -v sshd)" -D -e -f /run/sshd/sshd_config
"""


def require() -> None:
    """End with SystemExit where hosts cannot be made, naming all that is missing and how to install it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise SystemExit("hosts are made of Linux namespaces: run this as root on Linux")
    missing = sorted({package for program, package in _PACKAGES.items() if not shutil.which(program)})
    if missing:
        raise SystemExit(f"programs are missing: apt-get install -y {' '.join(missing)}")
    if not (importlib.util.find_spec("moto") and importlib.util.find_spec("boto3")):
        raise SystemExit("moto and boto3 are missing: pip install --editable '.[dev]'")


@dataclass
class Host:
    """A host that was started; `kill` takes it away, `start` brings it back with its disk."""

    name: str
    address: str
    environment: Mapping[str, str]
    """What every shell on it begins with."""
    _network: Network
    _number: int
    _keeper: subprocess.Popen[bytes] | None = None

    def command(self, command: str) -> list[str]:
        """The command line that runs a shell command on it, as somebody who has just logged in."""
        home = Path.home()
        enter = f"nsenter --target {self._first()} --mount --net --pid --uts --wd={home}"
        shell = f"source ~/.bashrc && {command}"
        return [*enter.split(), "env", "-i", f"HOME={home}", "USER=root", "bash", "--login", "-c", shell]

    def run(
        self, command: str, *, check: bool = True, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command to its end; raises SystemExit with what it said if it fails and `check`."""
        done = subprocess.run(
            self.command(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
        )
        if check and done.returncode:
            raise SystemExit(f"{self.name}: `{command}` failed ({done.returncode}):\n{done.stdout[-6000:]}")
        return done

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Begin a shell command; what it says is to be read from `stdout`. It ends with its host."""
        return subprocess.Popen(
            self.command(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        """Write a file below its home."""
        file = self._disk / "home" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def kill(self) -> None:
        """Take it away as a cloud takes a machine: from one moment to the next nothing comes from it."""
        if self._keeper is None:
            return
        subprocess.run(["ip", "link", "set", self._wire, "down"], capture_output=True)
        self._keeper.kill()  # and with it, as unshare was told, all of the host's processes
        self._keeper.wait()
        self._keeper = None
        subprocess.run(["ip", "link", "delete", self._wire], capture_output=True)

    def format(self) -> None:
        """Give it an empty disk; what it needs for ssh is on it."""
        for folder in ("home/.ssh", "tmp", "upper", "work"):
            (self._disk / folder).mkdir(parents=True, mode=0o700)
        (self._disk / "tmp").chmod(0o1777)
        exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in self.environment.items())
        self.write(".bashrc", exports)
        self.write(".ssh/authorized_keys", self._network.key.with_suffix(".pub").read_text())
        (self._disk / "sshd_config").write_text(_SSHD.format(address=self.address))
        (self._disk / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        make_key(self._disk / "host_key")

    def start(self) -> None:
        """Start it from its disk; back when ssh answers. Raises SystemExit with what it said if it ends."""
        with (self._disk / "log").open("wb") as log:
            self._keeper = subprocess.Popen(
                [
                    # Ends with this process, even where that has no time to clean up.
                    *("setpriv", "--pdeathsig", "KILL"),
                    *(
                        "unshare",
                        "--mount",
                        "--net",
                        "--pid",
                        "--uts",
                        "--mount-proc",
                        "--fork",
                        "--kill-child",
                    ),
                    *("sh", "-c", _BOOT, "sh"),
                    *(self.address, self.name, str(self._disk)),
                    *(sys.prefix, str(Path.home()), str(ROOT), sys.base_prefix),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _PATIENCE
        while not (self._wired() and self._answers()):
            if self._keeper.poll() is not None or time.monotonic() > deadline:
                said = (self._disk / "log").read_text(errors="replace")
                raise SystemExit(f"{self.name} did not start: {said or 'it said nothing'}")
            time.sleep(0.05)

    @property
    def _disk(self) -> Path:
        return self._network.folder / self.name

    @property
    def _wire(self) -> str:
        return f"{self._network.bridge}h{self._number}"

    def _first(self) -> int:
        """Process id of its first process, as this machine sees it; 0 until there is one."""
        if self._keeper is None:
            raise SystemExit(f"{self.name} was taken away")
        children = psutil.Process(self._keeper.pid).children()
        return int(children[0].pid) if children else 0

    def _wired(self) -> bool:
        """Whether it is on the bridge; puts it there once it has a first process."""
        if not (self._keeper and self._keeper.poll() is None and (first := self._first())):
            return False
        if not Path(f"/sys/class/net/{self._wire}").exists():
            # The same each time, so that who knew it before it was away finds it at once.
            own = "02:53:4e:43:" + ":".join(f"{int(part):02x}" for part in self.address.split(".")[2:])
            wire = f"ip link add {self._wire} type veth peer name eth0 address {own} netns {first}"
            subprocess.run(wire.split(), check=True)
            subprocess.run(
                ["ip", "link", "set", self._wire, "master", self._network.bridge, "up"], check=True
            )
        return True

    def _answers(self) -> bool:
        try:
            socket.create_connection((self.address, 22), timeout=1).close()
        except OSError:
            return False
        return True


@dataclass
class Network:
    """A bridge and the hosts on it."""

    bridge: str
    address: str
    """Of this machine on the bridge: where what the hosts share listens."""
    folder: Path
    """Holds the hosts' disks; goes away with the network."""
    hosts: list[Host] = field(default_factory=list)

    @property
    def key(self) -> Path:
        """The private key that opens every host."""
        return self.folder / "key"

    def start(self, name: str, environment: Mapping[str, str] | None = None) -> Host:
        """Start a host. Its shells find this Python environment first, and `environment`."""
        number = len(self.hosts) + 2
        address = f"{self.address.rpartition('.')[0]}.{number}"
        path = f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        host = Host(name, address, {"PATH": path, **(environment or {})}, self, number)
        self.hosts.append(host)
        host.format()
        host.start()
        return host


@contextmanager
def network() -> Iterator[Network]:
    """A network without hosts; the block's end takes it and all its hosts away."""
    require()
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the block's end comes
    try:
        with tempfile.TemporaryDirectory(prefix="senca-hosts-") as folder:
            bridge, address = _bridge()
            found = Network(bridge, address, Path(folder))
            try:
                make_key(found.key)
                yield found
            finally:
                for host in found.hosts:
                    host.kill()
                subprocess.run(["ip", "link", "delete", bridge], check=True)
    finally:
        signal.signal(signal.SIGTERM, before)


def _bridge() -> tuple[str, str]:
    """Make a bridge with a name and addresses that nobody else here has."""
    said = ""
    for number in range(256):
        name, address = f"snc{number}", f"10.213.{number}.1"
        made = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True, text=True)
        if made.returncode == 0:
            subprocess.run(["ip", "address", "add", f"{address}/24", "dev", name], check=True)
            subprocess.run(["ip", "link", "set", name, "up"], check=True)
            # This machine's other addresses are none of the hosts' business.
            Path(f"/proc/sys/net/ipv4/conf/{name}/arp_ignore").write_text("1")
            return name, address
        said = made.stderr
        if "File exists" not in said:
            break
    raise SystemExit(f"no bridge can be made: {said.strip()}")


def make_key(path: Path) -> None:
    """Make an ssh key pair without a passphrase."""
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "senca proof", "-f", str(path)]
    subprocess.run(make, check=True)


@dataclass(frozen=True)
class Storage:
    """A loopback S3 with one bucket."""

    endpoint: str
    bucket: str = "lab"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A boto3 client for it."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def names(self, prefix: str = "") -> list[str]:
        """Every object below a prefix, in order."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", []))

    def read(self, name: str) -> bytes:
        """The content of an object."""
        return bytes(self.client().get_object(Bucket=self.bucket, Key=name)["Body"].read())


@contextmanager
def storage(address: str) -> Iterator[Storage]:
    """An S3 server at this address alone, with an empty bucket; it lives in this process's memory."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(address, 0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        found = Storage(f"http://{address}:{port}")
        found.client().create_bucket(Bucket=found.bucket)
        yield found
    finally:
        server.stop()
