"""The kinds of experiment as command lines: thin recipes under experiments/ say which and with what."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from senca_ray import keys, options
from senca_ray.config import Configs, Setting, from_mapping
from senca_ray.errors import Problem, ProblemsError
from senca_ray.model.encoders.files import weights_by_encoder
from senca_ray.study_file import (
    REAL_SEEDS,
    SIMULATED_SEEDS,
    AblationPart,
    BenchmarkPart,
    CohortPart,
    MarkersPart,
    SearchPart,
    StudyFile,
    SweepPart,
    read_study_file,
)

_CONTROLS = """Every fit is repeated with every seed, beside the controls: the same network untrained,
smoothed PCA, smoothed image features, coordinates alone."""
_ENDING = """The study's folder ends with results.parquet (a row a fit, and one for what the seeds agree on),
summary.csv (the comparison, with paired tests) and report.html. The same command again goes on where it
stopped; `senca study show` tells how far it is.

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


def benchmark_command(
    *, name: str, title: str, explain: str, settings: Path | None = None
) -> Callable[[], None]:
    """The command line of an experiment that compares methods; `settings` stands in for --config."""
    preset = BenchmarkPart()
    preset_methods = list(preset.methods)

    def shape(
        method: Annotated[
            list[str],
            typer.Option(
                "--method",
                help="NAME, NAME:CLUSTERING, or all methods of a kind: model, null, simple, published; may "
                "be repeated. `senca methods` lists them.",
                metavar="NAME",
            ),
        ] = preset_methods,
        reference: Annotated[
            str, typer.Option(help="The method that every other is tested against.", metavar="NAME")
        ] = preset.reference,
        unit: Annotated[
            str,
            typer.Option(
                help="patient: sections of a patient are averaged before a test; section: each counts as "
                "independent, which those of one patient are not.",
                metavar="UNIT",
            ),
        ] = preset.unit,
        slow_seeds: Annotated[
            int, typer.Option(min=1, help="Seeds of methods whose fits take minutes.", metavar="N")
        ] = preset.slow_seeds,
        sensitivity: Annotated[
            bool,
            typer.Option(
                help="Read every fit under other protocols too, to see what the ranking owes to the protocol."
            ),
        ] = preset.sensitivity,
    ) -> dict[str, Any]:
        given = {
            "methods": method,
            "reference": reference,
            "unit": unit,
            "slow_seeds": slow_seeds,
            "sensitivity": sensitivity,
        }
        return {"benchmark": from_mapping(BenchmarkPart, given)}

    return _command(name, title, explain, shape, settings, benchmark=True)


def markers_command(*, name: str, title: str, explain: str, k: str) -> Callable[[], None]:
    """The command line of an experiment that reports the marker genes of the model's regions.

    `k` is the k policy where --k is left out.
    """

    def shape(
        genes: Annotated[
            str | None,
            typer.Option(
                help="Genes to report, separated by commas, or @FILE with one a line. Left out: those of the "
                "paper's Table 3.",
                metavar="A,B,...",
            ),
        ] = None,
    ) -> dict[str, Any]:
        return {"markers": MarkersPart(genes=None if genes is None else options.gene_list(genes))}

    return _command(name, title, explain, shape, k=k)


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
    file: Path, *, data: str | None, format: str | None, out: str | None, address: str | None
) -> None:
    """Run the study of a YAML file, on another cohort or into another folder where these are given."""
    study = read_study_file(file)
    cohort = study.cohort
    if data is not None:
        cohort = dataclasses.replace(cohort, data=data, format=format)
    _run(dataclasses.replace(study, cohort=cohort), out, address)


def _command(
    name: str,
    title: str,
    explain: str,
    shape: Callable[..., dict[str, Any]],
    settings: Path | None = None,
    k: str = "labels",
    benchmark: bool = False,
) -> Callable[[], None]:
    """A command line with the options of `shape`, which says what kind of study it is, and those of all.

    `settings` is the YAML file that stands in for --config, `k` the k policy, where these are left out. A
    `benchmark` names its controls itself.
    """

    def shared(
        data: options.Data = None,
        format: options.Format = None,
        out: Annotated[
            str | None,
            typer.Option(
                help="The study's folder or address (s3://, gs://); where it holds this very study, that is "
                f"gone on with. Left out: studies/{name}-COHORT, below SENCA_STORAGE where that is set.",
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
        k: options.KPolicy = k,
        clustering: options.Clustering = "ward",
        pair: options.Pair = None,
        undetermined: options.Undetermined = keys.UNSCORED,
        refined: options.Refined = False,
        config: options.Config = None,
        set: options.Set = None,
        sample: options.Samples = None,
        shards: options.Shards = None,
        encoder: options.Encoder = None,
        encoder_weights: options.EncoderWeights = None,
        address: options.Address = None,
        **own: Any,
    ) -> None:
        problems: list[Problem] = []
        chosen = Configs()
        kind: dict[str, Any] = {"ablation": AblationPart()}
        with _collected(problems):
            chosen = options.configs(config or settings, set, encoder)
        with _collected(problems):
            kind = shape(**own)
        weights: dict[str, Path] = {}
        with _collected(problems):
            weights = weights_by_encoder(encoder_weights, chosen.prepare.encoders, "--encoder-weights")
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
                    encoder_weights=weights,
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
    beside = "" if benchmark else f"{_CONTROLS}\n\n"
    script = f"{name.replace('-', '_')}.py"
    app.command(help=f"{explain}\n\n{beside}{_ENDING.format(script=script)}")(shared)
    return lambda: options.guarded(lambda: app(standalone_mode=True))


@contextmanager
def _collected(problems: list[Problem]) -> Iterator[None]:
    """Keep the problems that the block raises for later, so that the user hears of all at once."""
    try:
        yield
    except ProblemsError as error:
        problems += error.problems


def _run(study: StudyFile, out: str | None, address: str | None) -> None:
    from senca_ray.experiment import run_study

    run_study(study.study(), study.sections(), out or study.out(), address=address)
