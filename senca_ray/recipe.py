"""What every command line of the project shares: its options, its exit codes, and the sweep command."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from senca_ray.config import Configs, PrepareConfig, Setting, from_mapping, read_yaml
from senca_ray.errors import Problem, ProblemsError, SencaError

BAD_INPUT, STOPPED = 2, 130
"""Exit codes: something the user can fix; stopped before the end."""

SIMULATED_SEEDS, REAL_SEEDS = 5, 15
"""Seeds by default: enough to see the mechanics, and what a claim about sections needs."""

# --- Options ------------------------------------------------------------------------------------------
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with your raw sections. Left out: the embedded simulated cohort.", metavar="DIR"
    ),
]
Format = Annotated[
    str | None, typer.Option(help="Format of the raw folder, for example her2st. Left out: detected.")
]
Samples = Annotated[list[str] | None, typer.Option("--sample", help="Only this sample; may be repeated.")]
Shards = Annotated[
    Path | None,
    typer.Option(
        help="Where prepared sections are kept and found again. Left out: your cache folder.", metavar="DIR"
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        help="Image encoder: efficientnet-lite0 (the default; its ImageNet weights are installed with the "
        "package), resnet18, resnet34, resnet50 (downloaded, or from --encoder-weights), or random."
    ),
]
EncoderWeights = Annotated[
    Path | None, typer.Option(help="State dict of a torchvision ResNet.", metavar="FILE")
]
Patches = Annotated[bool, typer.Option("--patches", help="Keep the image patches in the shards (large).")]
KPolicy = Annotated[
    str,
    typer.Option(
        "--k",
        help="Number of regions: 'labels' (as many as the pathologist's labels: an oracle, and the field's "
        "habit), 'fixed:N', or 'auto' (chosen without labels).",
    ),
]
Clustering = Annotated[str, typer.Option(help="ward, average, complete or kmeans.")]
Pair = Annotated[
    tuple[str, str] | None,
    typer.Option(
        help="Two labels whose separation is scored, for example 'invasive cancer' 'cancer in situ'.",
        metavar="LABEL LABEL",
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
        help="Ray cluster to run on. Left out: RAY_ADDRESS, else this machine.", envvar="RAY_ADDRESS"
    ),
]


def configs(file: Path | None, changes: list[str] | None, encoder: str | None = None) -> Configs:
    """The paper's settings, changed by a YAML file, then by NAME=VALUE; raises SencaError.

    Every wrong name and value is reported at once.
    """
    import yaml

    values: dict[str, dict[str, Any]] = {"setting": {}, "prepare": {}} | (read_yaml(file) if file else {})
    problems = []
    for change in [*(changes or []), *([f"encoder={encoder}"] if encoder else [])]:
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
    return from_mapping(Configs, values)


def guarded(command: Callable[..., Any]) -> None:
    """Run a command line: what a user can fix is told in words and ends with exit code 2."""
    try:
        command()
    except SencaError as error:
        from senca_ray.experiment import Interrupted

        print(f"error: {error}", file=sys.stderr)
        sys.exit(STOPPED if isinstance(error, Interrupted) else BAD_INPUT)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(STOPPED)


def sweep_command(
    *, name: str, title: str, vary: str, values: tuple[Any, ...], explain: str
) -> Callable[[], None]:
    """The command line of an experiment that varies one setting over a cohort."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    kind = type(getattr(Setting(), vary))

    def command(
        data: Data = None,
        format: Format = None,
        out: Annotated[
            Path | None,
            typer.Option(
                help="The study's folder; one that holds this study is gone on with. "
                f"Left out: studies/{name}-COHORT.",
                metavar="DIR",
            ),
        ] = None,
        values: Annotated[
            str, typer.Option(help=f"Values of {vary} to compare, separated by commas.")
        ] = ",".join(map(str, values)),
        seeds: Annotated[
            int | None,
            typer.Option(
                min=1,
                help=f"Seeds a fit is repeated with. Left out: {SIMULATED_SEEDS} on the simulated cohort, "
                f"{REAL_SEEDS} on --data (fewer decide nothing there).",
            ),
        ] = None,
        k: KPolicy = "labels",
        clustering: Clustering = "ward",
        pair: Pair = None,
        config: Config = None,
        set: Set = None,
        sample: Samples = None,
        shards: Shards = None,
        encoder: Encoder = None,
        encoder_weights: EncoderWeights = None,
        address: Address = None,
    ) -> None:
        from senca_ray.experiment import Cohort, run_sweep
        from senca_ray.methods.run import Protocol
        from senca_ray.study.sweep import Sweep

        try:
            chosen = tuple(kind(v) for v in values.split(","))
        except ValueError:
            raise SencaError(
                f"--values {values}: expected {kind.__name__} values separated by commas"
            ) from None
        chosen_configs = configs(config, set, encoder)
        count = seeds or (SIMULATED_SEEDS if data is None else REAL_SEEDS)
        sweep = Sweep(
            name=name,
            title=title,
            vary=vary,
            values=chosen,
            setting=chosen_configs.setting,
            seeds=tuple(range(count)),
            protocol=Protocol(k, clustering, pair),
        )
        cohort = Cohort(
            data=data,
            format=format,
            samples=tuple(sample or ()),
            shards=shards,
            prepare=chosen_configs.prepare,
            weights=encoder_weights,
        )
        folder = out or Path("studies") / f"{name}-{data.resolve().name if data else 'simulated'}"
        run_sweep(sweep, cohort, folder, address=address)

    app.command(help=explain)(command)
    return lambda: guarded(lambda: app(standalone_mode=True))
