"""What every command line of the project shares: its options and its exit codes."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from senca_ray.config import Configs, PrepareConfig, Setting, from_mapping, read_yaml
from senca_ray.errors import Interrupted, Problem, ProblemsError, SencaError

BAD_INPUT, STOPPED = 2, 130
"""Exit codes: something the user can fix; stopped before the end."""

StudyFolder = Annotated[
    Path, typer.Argument(help="The study's folder (an experiment's --out).", metavar="DIR")
]
Sections = Annotated[
    list[str] | None,
    typer.Option("--section", help="Only this section; may be repeated. Left out: all.", metavar="SAMPLE"),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Folder with your raw sections, a cohort file, or an address (s3://, gs://). Left out: the "
        "embedded simulated cohort.",
        metavar="DIR",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(help="Format of the raw folder, for example her2st. Left out: detected.", metavar="FORMAT"),
]
Samples = Annotated[
    list[str] | None,
    typer.Option("--sample", help="Only this sample; may be repeated.", metavar="SAMPLE"),
]
Shards = Annotated[
    str | None,
    typer.Option(
        help="Folder or address (s3://, gs://) where prepared sections are kept and found again. Left out: "
        "your cache folder.",
        metavar="DIR",
    ),
]
Encoder = Annotated[
    list[str] | None,
    typer.Option(
        help="Image encoder: efficientnet-lite0 (the default; its ImageNet weights are installed with the "
        "package), any ResNet of torchvision or timm:NAME (downloaded, or from --encoder-weights), conch, or "
        "random. May be repeated: features of several are kept side by side.",
        metavar="NAME",
    ),
]
EncoderWeights = Annotated[
    list[str] | None,
    typer.Option(
        help="File with the weights of the encoder (.pth, .bin, .safetensors); of several encoders NAME=FILE "
        "for each. Pathology models (UNI, CONCH, Virchow, ...) are given so: see docs/encoders.md.",
        metavar="[NAME=]FILE",
    ),
]
Patches = Annotated[bool, typer.Option("--patches", help="Keep the image patches in the shards (large).")]
KPolicy = Annotated[
    str,
    typer.Option(
        "--k",
        help="Number of regions: 'labels' (as many as the pathologist's labels: an oracle, and the field's "
        "habit), 'fixed:N', or 'auto' (chosen without labels).",
        metavar="POLICY",
    ),
]
Clustering = Annotated[
    str, typer.Option(help="ward, average, complete, kmeans, gmm-tied or leiden.", metavar="NAME")
]
Pair = Annotated[
    tuple[str, str] | None,
    typer.Option(
        help="Two labels whose separation is scored, for example 'invasive cancer' 'cancer in situ'.",
        metavar="LABEL LABEL",
    ),
]
Undetermined = Annotated[
    str,
    typer.Option(
        help="Spots labelled undetermined: unscored (clustered, left out of the score), dropped (left out of "
        "both) or scored (a label like any other).",
        metavar="HOW",
    ),
]
Refined = Annotated[
    bool,
    typer.Option(
        "--refined", help="Give a spot the region that most of its 4 neighbours have (SpaGCN's refinement)."
    ),
]
Config = Annotated[
    Path | None, typer.Option(help="Settings from a YAML file, for example one of configs/.", metavar="FILE")
]
_SETTING, _PREPARE = ({f.name for f in dataclasses.fields(kind)} for kind in (Setting, PrepareConfig))
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change one setting, for example --set epochs=40; may be repeated. "
        f"Of the fit: {', '.join(sorted(_SETTING))}. Of prepare: {', '.join(sorted(_PREPARE))}.",
        metavar="NAME=VALUE",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to run on. Left out: RAY_ADDRESS, else this machine.",
        envvar="RAY_ADDRESS",
        metavar="ADDRESS",
    ),
]
ClusterPath = Annotated[
    Path | None,
    typer.Option(
        "--cluster",
        help="Cluster file, as `ray up` takes it. Left out: cluster.yaml, if here.",
        metavar="FILE",
    ),
]


def configs(file: Path | None, changes: list[str] | None, encoders: list[str] | None = None) -> Configs:
    """The paper's settings, changed by a YAML file, then by NAME=VALUE; raises SencaError.

    Every wrong name and value is reported at once.
    """
    import yaml

    values: dict[str, dict[str, Any]] = {"setting": {}, "prepare": {}} | (read_yaml(file) if file else {})
    problems = []
    for change in changes or []:
        name, sign, text = change.partition("=")
        section = "setting" if name in _SETTING else "prepare"
        if not sign or name not in _SETTING | _PREPARE:
            known = ", ".join(sorted(_SETTING | _PREPARE))
            problems.append(
                Problem("-", "--set", f"{change!r} found; expected NAME=VALUE with a name of {known}")
            )
        elif isinstance(values[section], dict):
            try:
                values[section][name] = yaml.safe_load(text)
            except yaml.YAMLError:
                problems.append(Problem("-", "--set", f"{change!r} found; the value cannot be read as YAML"))
    if problems:
        raise ProblemsError(problems, "the options")
    if encoders and isinstance(values["prepare"], dict):
        values["prepare"]["encoders"] = encoders
    return from_mapping(Configs, values)


def gene_list(text: str) -> tuple[str, ...]:
    """Genes separated by commas, or those of a file named @FILE, one a line; raises ProblemsError."""
    problem = f"{text!r} found; expected genes separated by commas, or @FILE with one a line"
    try:
        names = Path(text[1:]).read_text(encoding="utf-8").split("\n") if text[:1] == "@" else text.split(",")
    except (OSError, ValueError) as error:
        raise ProblemsError([Problem("-", "--genes", f"{problem} ({error})")], "the options") from None
    genes = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not genes:
        raise ProblemsError([Problem("-", "--genes", problem)], "the options")
    return genes


def guarded(command: Callable[..., Any]) -> None:
    """Run a command line: what a user can fix is told in words and ends with exit code 2."""
    try:
        command()
    except SencaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(STOPPED if isinstance(error, Interrupted) else BAD_INPUT)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(STOPPED)
