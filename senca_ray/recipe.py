"""What every command line of the project shares: its options, its exit codes, the kinds of experiment."""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from senca_ray import keys
from senca_ray.config import Configs, PrepareConfig, Setting, from_mapping, read_yaml
from senca_ray.errors import Interrupted, Problem, ProblemsError, SencaError
from senca_ray.study_file import (
    REAL_SEEDS,
    SIMULATED_SEEDS,
    AblationPart,
    CohortPart,
    SearchPart,
    StudyFile,
    SweepPart,
    read_study_file,
)

BAD_INPUT, STOPPED = 2, 130
"""Exit codes: something the user can fix; stopped before the end."""

# --- Options ------------------------------------------------------------------------------------------
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with your raw sections. Left out: the embedded simulated cohort.", metavar="DIR"
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
    Path | None,
    typer.Option(
        help="Where prepared sections are kept and found again. Left out: your cache folder.", metavar="DIR"
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        help="Image encoder: efficientnet-lite0 (the default; its ImageNet weights are installed with the "
        "package), resnet18, resnet34, resnet50 (downloaded, or from --encoder-weights), or random.",
        metavar="NAME",
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
        print(f"error: {error}", file=sys.stderr)
        sys.exit(STOPPED if isinstance(error, Interrupted) else BAD_INPUT)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(STOPPED)


# --- Recipes ------------------------------------------------------------------------------------------
_ENDING = """Every fit is repeated with every seed, beside the controls: the same network untrained, smoothed
PCA, smoothed image features, coordinates alone. The study's folder ends with results.parquet (a row a fit,
and one for what the seeds agree on), summary.csv (the comparison, with paired tests) and report.html. The
same command again goes on where it stopped; `senca study show` tells how far it is.

\b
On the embedded simulated cohort:
  python experiments/{script}
On your sections:
  python experiments/{script} --data her2st/data --format her2st
"""


def sweep_command(
    *, name: str, title: str, vary: str, values: tuple[Any, ...], explain: str
) -> Callable[[], None]:
    """The command line of an experiment that varies one setting over a cohort."""
    kind = type(getattr(Setting(), vary))

    def shape(
        values: Annotated[
            str, typer.Option(help=f"Values of {vary} to compare, separated by commas.", metavar="A,B,...")
        ] = ",".join(map(str, values)),
    ) -> dict[str, Any]:
        try:
            given = tuple(kind(v) for v in values.split(","))
        except ValueError:
            expected = f"{values!r} found; expected {kind.__name__} values separated by commas"
            raise ProblemsError([Problem("-", "--values", expected)], "the options") from None
        return {"sweep": SweepPart(vary=vary, values=given)}

    return _command(name, title, explain, shape)


def ablation_command(*, name: str, title: str, explain: str) -> Callable[[], None]:
    """The command line of an experiment that leaves parts of the model out, one at a time."""
    return _command(name, title, explain, lambda: {"ablation": AblationPart()})


def search_command(*, name: str, title: str, space: dict[str, str], explain: str) -> Callable[[], None]:
    """The command line of an experiment that searches settings with Optuna; `space` as --space writes it."""
    preset, preset_space = SearchPart(space={}), [f"{field}={text}" for field, text in space.items()]
    preset_objectives = list(preset.objectives)

    def shape(
        space: Annotated[
            list[str],
            typer.Option(
                "--space",
                help="What is varied: NAME=LOW..HIGH (add :log, or :STEP), or NAME=A,B,C; may be repeated. "
                "Given once, it replaces the whole default space.",
                metavar="NAME=RANGE",
            ),
        ] = preset_space,
        suggestions: Annotated[
            int,
            typer.Option(
                min=1, help="Settings tried in each fold; the first is the study's own.", metavar="N"
            ),
        ] = preset.suggestions,
        objective: Annotated[
            list[str],
            typer.Option(
                "--objective",
                help="Score to search by, or two of them: ari, nmi, seconds; without labels silhouette, "
                "chaos, pas, stability, loss_last.",
                metavar="SCORE",
            ),
        ] = preset_objectives,
        aggregate: Annotated[
            str,
            typer.Option(
                help="How the scores of the patients become one number: mean, median or rank.", metavar="HOW"
            ),
        ] = preset.aggregate,
        select: Annotated[
            str,
            typer.Option(
                help="loo-patient: choose on the other patients, test on the one left out, in turn; "
                "test-patients: test on those of --test; none: no test, tuning scores only.",
                metavar="HOW",
            ),
        ] = preset.select,
        test: Annotated[
            list[str] | None,
            typer.Option(
                "--test",
                help="Patient that takes no part in the choice, for --select test-patients; may be repeated.",
                metavar="PATIENT",
            ),
        ] = None,
        racing: Annotated[
            bool | None,
            typer.Option(
                help="Stop a suggestion early that is significantly worse than the best. Left out: yes, for "
                "one objective.",
                show_default=False,
            ),
        ] = preset.racing,
        ahead: Annotated[
            int | None,
            typer.Option(
                min=1,
                help="Suggestions of a fold under way at once; what is suggested depends on it. Left out: as "
                "many as the cluster has room for trials when the study starts.",
                metavar="N",
            ),
        ] = preset.ahead,
        sampler_seed: Annotated[
            int, typer.Option(min=0, help="Another seed, other suggestions.", metavar="N")
        ] = 0,
    ) -> dict[str, Any]:
        from senca_ray.study.space import describe, parse_text

        problems: list[Problem] = []
        parsed: dict[str, Any] = {}
        with _collected(problems):
            parsed = describe(parse_text(space))
        given = {
            "space": parsed,
            "suggestions": suggestions,
            "objectives": objective,
            "aggregate": aggregate,
            "select": select,
            "test": test or (),
            "racing": racing,
            "ahead": ahead,
            "sampler_seed": sampler_seed,
        }
        part = SearchPart(space=parsed)
        with _collected(problems):
            part = from_mapping(SearchPart, given)
        if problems:
            raise ProblemsError(problems, "the options")
        return {"search": part}

    return _command(name, title, explain, shape)


def run_file(
    file: Path, *, data: Path | None, format: str | None, out: Path | None, address: str | None
) -> None:
    """Run the study of a YAML file, on another cohort or into another folder where these are given."""
    study = read_study_file(file)
    cohort = study.cohort
    if data is not None:
        cohort = dataclasses.replace(cohort, data=data, format=format)
    _run(dataclasses.replace(study, cohort=cohort), out, address)


def _command(name: str, title: str, explain: str, shape: Callable[..., dict[str, Any]]) -> Callable[[], None]:
    """A command line with the options of `shape`, which says what kind of study it is, and those of all."""

    def shared(
        data: Data = None,
        format: Format = None,
        out: Annotated[
            Path | None,
            typer.Option(
                help="The study's folder; where it holds this very study, that is gone on with. "
                f"Left out: studies/{name}-COHORT.",
                metavar="DIR",
            ),
        ] = None,
        seeds: Annotated[
            int | None,
            typer.Option(
                min=1,
                help=f"How many seeds every fit is repeated with. Left out: {SIMULATED_SEEDS} on the "
                f"simulated cohort, {REAL_SEEDS} on --data.",
                metavar="N",
            ),
        ] = None,
        k: KPolicy = "labels",
        clustering: Clustering = "ward",
        pair: Pair = None,
        undetermined: Undetermined = keys.UNSCORED,
        refined: Refined = False,
        config: Config = None,
        set: Set = None,
        sample: Samples = None,
        shards: Shards = None,
        encoder: Encoder = None,
        encoder_weights: EncoderWeights = None,
        address: Address = None,
        **own: Any,
    ) -> None:
        problems: list[Problem] = []
        chosen = Configs()
        kind: dict[str, Any] = {"ablation": AblationPart()}
        with _collected(problems):
            chosen = configs(config, set, encoder)
        with _collected(problems):
            kind = shape(**own)
        with _collected(problems):
            study = StudyFile(
                name=name,
                title=title,
                **kind,
                cohort=CohortPart(
                    data=data,
                    format=format,
                    samples=tuple(sample or ()),
                    shards=shards,
                    encoder_weights=encoder_weights,
                ),
                seeds=seeds,
                k=k,
                clustering=clustering,
                pair=pair,
                undetermined=undetermined,
                refined=refined,
                setting=chosen.setting,
                prepare=chosen.prepare,
            )
        if problems:
            raise ProblemsError(problems, "the options")
        _run(study, out, address)

    # What typer reads: the study's own options first, then those that all experiments share.
    own = inspect.signature(shape).parameters.values()
    common = [p for p in inspect.signature(shared).parameters.values() if p.kind is not p.VAR_KEYWORD]
    keyword_only = [p.replace(kind=p.KEYWORD_ONLY) for p in (*common[:3], *own, *common[3:])]
    shared.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    shared.__annotations__ = {p.name: p.annotation for p in keyword_only}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    script = f"{name.replace('-', '_')}.py"
    app.command(help=f"{explain}\n\n{_ENDING.format(script=script)}")(shared)
    return lambda: guarded(lambda: app(standalone_mode=True))


@contextmanager
def _collected(problems: list[Problem]) -> Iterator[None]:
    """Keep the problems that the block raises for later, so that the user hears of all at once."""
    try:
        yield
    except ProblemsError as error:
        problems += error.problems


def _run(study: StudyFile, out: Path | None, address: str | None) -> None:
    from senca_ray.experiment import run_study

    run_study(study.study(), study.sections(), out or study.out(), address=address)
