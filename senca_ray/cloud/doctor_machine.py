"""What `senca doctor` checks about this machine: versions, accelerator, cache, token, programs, W&B."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from senca_ray.cloud.doctor import Check, Verdict, failed, passed, warning
from senca_ray.cluster import TOKEN_FILE
from senca_ray.errors import SencaError
from senca_ray.files import cache, write_text

PACKAGE = "senca-ray"

_ROOM_GB = 5.0
"""Free room for the cache below which copies of sections soon push each other out."""
_MAKE_TOKEN = "ray get-auth-token --generate > /dev/null && chmod 600 ~/.ray/auth_token"  # noqa: S105


def machine_checks(for_cluster: bool) -> list[Check]:
    """Checks of this machine; some more where it is to start or ask a cluster."""
    checks = [
        Check("Python", python),
        Check("packages", packages),
        Check("accelerator", accelerator),
        Check("cache", cache_folder),
        Check("token", lambda: token(for_cluster)),
        Check("W&B", wandb),
    ]
    return [*checks, Check("ssh and rsync", programs)] if for_cluster else checks


def python() -> Verdict:
    """Whether this Python is one that the package is made for."""
    from packaging.specifiers import SpecifierSet

    here = ".".join(map(str, sys.version_info[:3]))
    wanted = metadata.metadata(PACKAGE)["Requires-Python"]
    if here in SpecifierSet(wanted):
        return passed(here)
    return failed(here, wanted, f"python3.11 -m venv .venv && .venv/bin/pip install {PACKAGE}")


def packages() -> Verdict:
    """Whether the installed packages are those that the project pins."""
    from packaging.requirements import Requirement

    pins = [Requirement(text) for text in metadata.requires(PACKAGE) or []]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"extra": ""})]
    others = []
    for pin in pins:
        try:
            here = metadata.version(pin.name)
        except metadata.PackageNotFoundError:
            here = "none"
        if here == "none" or not pin.specifier.contains(here, prereleases=True):
            others.append(f"{pin.name} {here} ({pin.specifier})")
    if others:
        return warning(
            f"{len(others)} of {len(pins)} are not as pinned: {', '.join(others)}",
            f"what {PACKAGE} {metadata.version(PACKAGE)} was tested with",
            f"{sys.executable} -m pip install --upgrade {PACKAGE}=={metadata.version(PACKAGE)}",
        )
    return passed(f"{PACKAGE} {metadata.version(PACKAGE)}, ray {metadata.version('ray')}, all pins met")


def accelerator() -> Verdict:
    """Whether torch sees the GPUs that this machine has."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return passed(f"torch {torch.__version__}, {', '.join(names)}")
    if shutil.which("nvidia-smi"):
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        return warning(
            f"an NVIDIA driver is here, torch {torch.__version__} was built {built} and sees no GPU",
            "a torch that sees it",
            f"nvidia-smi; then {sys.executable} -m pip install --force-reinstall the CUDA build of torch",
        )
    return passed(f"torch {torch.__version__}; no GPU here, fits run on the CPU")


def cache_folder() -> Verdict:
    """Whether the cache can be written to, and its disk has room."""
    folder = cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".senca-doctor"
        write_text(probe, "")
        probe.unlink()
        free = shutil.disk_usage(folder).free / 1e9
    except (OSError, SencaError) as error:
        return failed(f"{folder}: {error}", "a folder to write to", "export SENCA_CACHE=/another/folder")
    if free < _ROOM_GB:
        return warning(
            f"{folder}: {free:.1f} GB free",
            f"{_ROOM_GB:.0f} GB or more",
            "senca clean, or export SENCA_CACHE=/another/folder",
        )
    return passed(f"{folder}: {free:.0f} GB free")


def token(for_cluster: bool) -> Verdict:
    """Whether there is a token, and nobody else can read it: who has it runs code as its owner."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return passed("in RAY_AUTH_TOKEN")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE).expanduser()
    expected = f"a token in {path} that only you can read (mode 0600)"
    try:
        mode, empty = stat.S_IMODE(path.stat().st_mode), not path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if for_cluster:
            return failed(f"no {path}", expected, _MAKE_TOKEN)
        return warning(f"no {path}; Ray makes one when it is first started", expected, _MAKE_TOKEN)
    except (OSError, UnicodeDecodeError) as error:
        return failed(f"{path} cannot be read ({type(error).__name__})", expected, f"ls -l {path}")
    if empty:
        return failed(f"{path} is empty", expected, f"rm {path} && {_MAKE_TOKEN}")
    if mode & 0o077:
        return failed(f"{path} has mode {mode:04o}", expected, f"chmod 600 {path}")
    return passed(f"{path}, mode {mode:04o}")


def request_token(environment: Mapping[str, str] = os.environ) -> str:
    """The token that requests to a cluster carry; empty where this machine has none. Never to be shown."""
    if given := environment.get("RAY_AUTH_TOKEN"):
        return given
    try:
        path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE).expanduser()
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def programs() -> Verdict:
    """Whether the programs are here that `ray up` calls."""
    if missing := [name for name in ("ssh", "rsync") if not shutil.which(name)]:
        return failed(
            f"not installed: {', '.join(missing)}",
            "ssh and rsync, which `ray up` calls",
            "sudo apt-get install openssh-client rsync (macOS: brew install rsync)",
        )
    return passed("both installed")


def wandb() -> Verdict:
    """Where runs will go, and whether W&B knows the key; the key itself is never shown."""
    from senca_ray.report.wandb_session import Unsendable, check_account, mode

    chosen = mode()
    if chosen != "online":
        kept = "runs are kept in the study's folder" if chosen == "offline" else "no runs are written"
        return passed(f"{chosen}: {kept}")
    try:
        check_account()
    except Unsendable as reason:
        return warning(f"online, but: {reason}", "a key that W&B accepts", "wandb login --relogin")
    return passed("online, W&B accepts the key")
