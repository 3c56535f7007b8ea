"""What travels to a cluster with an experiment: its script, configs, and the files that its options name."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from senca_ray.data.location import is_remote
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.study_file import StudyFile, read_study_file

MOST_BYTES = 20_000_000
"""All files together: they go through an ssh tunnel, and into the memory of the head."""

_CHECK = Path(__file__).with_name("check_versions.py")
_OURS = ("--cluster", "--detach")
_SECRET = re.compile(
    r"\..*|.*\.(env|pem|key|p12|pfx|ppk)|id_(rsa|dsa|ecdsa|ed25519).*|auth_token|credentials.*", re.IGNORECASE
)
"""Names of files and folders that never travel."""
_TO_BUCKET = (
    "the cluster cannot see it: copy it to the bucket (`aws s3 cp --recursive`, `gcloud storage cp -r`"
)


@dataclass
class Parcel:
    """What travels, and what runs there."""

    name: str
    """Short name of the study: part of the job's id."""
    command: tuple[str, ...]
    """What runs, in the folder that the files make."""
    files: dict[str, Path] = field(default_factory=dict)
    """Name in that folder to the file on this machine."""
    out: str | None = None
    """Address of the study's folder, where the options give one."""
    home: str | None = None
    """Name of the study's folder below the cluster's storage, where it is known before it runs."""

    def write(self, folder: Path) -> None:
        """Lay the files out in an empty folder; raises SencaError."""
        try:
            for name, source in self.files.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        except OSError as error:
            raise SencaError(f"cannot be read or copied: {error}") from None

    def entrypoint(self) -> str:
        """What the cluster's shell runs: the command, after a look whether its versions are ours."""
        expected = (f"{name}={found}" for name, found in versions().items())
        check = shlex.join(["python", _CHECK.name, *expected])
        return f"{check} && exec {shlex.join(self.command)}"


def versions() -> dict[str, str]:
    """What has to be alike on the cluster and here."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"senca-ray": version("senca-ray"), "ray": version("ray"), "python": python}


def pack(script: Path, options: Sequence[str]) -> Parcel:
    """What travels for `python SCRIPT OPTIONS` or, of a YAML file, `senca study run FILE OPTIONS`.

    Raises ProblemsError with everything that the cluster could not find or that must not travel.
    """
    packing = _Packing(Path.cwd())
    parcel = packing.study(script) if script.suffix in (".yaml", ".yml") else packing.experiment(script)
    parcel.command += tuple(packing.options(options))
    parcel.out = packing.out
    if isinstance(packing.read, StudyFile):
        cohort = packing.read.sections()
        cohort = dataclasses.replace(cohort, data=packing.data) if packing.data else cohort
        parcel.home = f"{packing.read.name}-{cohort.name}"
    packing.files[_CHECK.name] = _CHECK
    parcel.files = packing.files
    packing.weigh()
    if packing.problems:
        raise ProblemsError(packing.problems, "what would travel")
    return parcel


class _Packing:
    """Files and problems as they are found."""

    def __init__(self, here: Path) -> None:
        self.here = here.resolve()
        self.files: dict[str, Path] = {}
        self.problems: list[Problem] = []
        self.read: StudyFile | None = None
        self.data: str | None = None
        self.out: str | None = None

    def experiment(self, script: Path) -> Parcel:
        """A script, the modules beside it, and the configs that scripts find from where they lie."""
        if script.suffix != ".py" or not script.is_file():
            found = "another kind of file" if script.exists() else "no such file"
            self._wrong("SCRIPT", f"{script}: {found}; expected a script (.py) or a study file (.yaml)")
            return Parcel(script.stem, ())
        folder = script.parent.resolve()
        # A script in the current folder looks for configs one above it, which has to be in the folder too.
        inside = folder.is_relative_to(self.here) and folder != self.here
        name = folder.relative_to(self.here) if inside else Path(folder.name)
        self.files[(name / script.name).as_posix()] = script
        for module in sorted(folder.glob("*.py")):
            self._add(name / module.name, module, folder)
        for target, source in ((name, folder), (name.parent, folder.parent)):
            configs = source / "configs"
            for file in sorted(configs.rglob("*")) if configs.is_dir() else ():
                self._add(target / "configs" / file.relative_to(configs), file, configs)
        return Parcel(_short(script.stem), ("python", (name / script.name).as_posix()))

    def study(self, file: Path) -> Parcel:
        """A study file, read here so that what is wrong in it is told here."""
        try:
            self.read = read_study_file(file)
        except ProblemsError as error:
            self.problems += error.problems
            return Parcel(_short(file.stem), ())
        cohort = self.read.cohort
        self._data("cohort.data", cohort.data)
        self._data("cohort.shards", cohort.shards)
        given = cohort.encoder_weights
        for weights in given.values() if isinstance(given, dict) else [given] if given else []:
            if weights.is_absolute() and weights.exists():
                message = f"{weights}: a place on this machine; name it from the folder you start in"
                self._wrong("cohort.encoder_weights", message)
            else:
                self._value("cohort.encoder_weights", str(weights))
        sent = self._value("SCRIPT", str(file))
        return Parcel(_short(self.read.name), ("senca", "study", "run", sent))

    def options(self, given: Sequence[str]) -> Iterator[str]:
        """The script's options as they have to read on the cluster."""
        option = ""
        for word in given:
            value, start = word, ""
            if word.startswith("--"):
                option, sign, value = word.partition("=")
                start = option + sign
                if option in (*_OURS, "--address"):
                    why = "the job runs on its cluster" if option == "--address" else "is an option of submit"
                    self._wrong(option, f"{why}; leave it out, or put it before the script")
            yield start + (self._value(option, value) if value else "")

    def _value(self, option: str, value: str) -> str:
        """One value, as it has to read there; a file that it names is added."""
        if option in ("--data", "--shards"):
            self._data(option, value)
        if option == "--data":
            self.data = value
        if option == "--out":
            self._out(value)
        if is_remote(value):
            bucket = value.partition("://")[2].partition("/")[0]
            if "@" in bucket and not bucket.startswith("anonymous@"):
                self._wrong(
                    option, "an address with credentials, which the list of jobs would show; leave them out"
                )
            return value
        # A file may stand after @ (a list of genes) or after NAME= (the weights of one encoder).
        starts = ("", "@", f"{value.rpartition('=')[0]}=")
        start = next((s for s in starts if value.startswith(s) and _is_file(Path(value[len(s) :]))), None)
        if start is None or option in ("--data", "--shards", "--out"):
            return value
        path = Path(value[len(start) :])
        whole = path.resolve()
        if not whole.is_relative_to(self.here):
            self._wrong(option, f"{path} lies outside the current folder; start above it, or copy it below")
        elif any(_SECRET.fullmatch(part) for part in whole.relative_to(self.here).parts):
            self._wrong(
                option, f"{path} is hidden or looks like a key, which never travels; rename it if not"
            )
        else:
            name = whole.relative_to(self.here).as_posix()
            self.files[name] = whole
            return start + name
        return value

    def _data(self, option: str, value: str | None) -> None:
        if value is None or is_remote(value):
            return
        path = Path(value)
        if path.exists():
            self._wrong(
                option,
                f"{value} lies on this machine; {_TO_BUCKET}; shards: `senca prepare {value} --out "
                "s3://BUCKET/FOLDER`) and give its address",
            )
        elif not path.is_absolute():
            self._wrong(option, f"{value}: nothing there; expected an address (s3://, gs://)")

    def _out(self, value: str) -> None:
        if is_remote(value):
            self.out = value
        else:
            message = f"{value} would be a folder of the head, lost with it; leave it out (the study goes to "
            self._wrong("--out", f"{message}the cluster's storage), or give an address (s3://, gs://)")

    def _add(self, name: Path, file: Path, within: Path) -> None:
        """Add a file found beside the script; not what is hidden, a key, or a link that leads elsewhere."""
        ordinary = file.is_file() and file.resolve().is_relative_to(within)
        if ordinary and not any(_SECRET.fullmatch(part) for part in file.relative_to(within).parts):
            self.files[name.as_posix()] = file

    def weigh(self) -> None:
        """Find fault with more than what fits."""
        sizes = {name: file.stat().st_size for name, file in self.files.items()}
        if (total := sum(sizes.values())) > MOST_BYTES:
            largest = max(sizes, key=lambda name: sizes[name])
            message = (
                f"{total / 1e6:.1f} MB in all, {sizes[largest] / 1e6:.1f} MB of them {largest}; expected "
            )
            message += f"{MOST_BYTES / 1e6:.0f} MB at most. Large files (weights of encoders) belong on the "
            message += "machines: in file_mounts of the cluster file, or its image; give their place there"
            self._wrong("size", message)

    def _wrong(self, place: str, message: str) -> None:
        self.problems.append(Problem("-", place, message))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long for a name: no file
        return False


def _short(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "study"
