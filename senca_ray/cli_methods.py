"""`senca methods ...`: which methods there are, whose code each runs, how to get what is missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from senca_ray import screen
from senca_ray.errors import SencaError
from senca_ray.screen import Screen

if TYPE_CHECKING:
    from senca_ray.methods import Method

methods_app = typer.Typer(rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="A method, as `senca methods` lists it.", metavar="NAME")]


@methods_app.callback(invoke_without_command=True)
def list_methods(context: typer.Context) -> None:
    """List methods; show one; install the authors' package of one.

    The list tells whose code each runs and whether it is installed. Source is `ours`, `package` (the authors'
    own, in an environment of its own) or `reimplemented`. Methods that other packages add stand below ours;
    those that cannot be used are named with the reason.

    \b
    Examples:
      senca methods
      senca methods show spagcn
      senca methods install spagcn
    """
    if context.invoked_subcommand is not None:
        return
    from senca_ray import methods

    shown = Screen()
    table = screen.table(["method", "kind", "source", "reads", "clusterings", "state"], [])
    known = methods.all_methods()
    for method in known.values():
        state = "missing" if method.missing() else "installed"
        screen.add_row(
            table, method.name, method.kind, method.source, method.modality, _clusterings(method), state
        )
    shown.table(table)
    for method in known.values():
        if missing := method.missing():
            shown.line(f"{method.name}: {missing}")
    for name, reason in methods.broken().items():
        shown.line(f"broken: {name}: {reason}")


@methods_app.command()
def show(name: Name) -> None:
    """Show one method: what it does, after whom, with which settings, what was checked.

    \b
    Example:
      senca methods show spagcn
    """
    from senca_ray import methods
    from senca_ray.methods import RegionMethod
    from senca_ray.methods.package import PackageMethod

    method = methods.method(name)
    settings = {key: json.dumps(value) for key, value in method.settings.items()}
    facts = {
        "after": method.citation,
        "kind": method.kind,
        "source": method.source,
        "reads": method.modality + (" (needs the image)" if method.needs_image else ""),
        "clusters": _clusterings(method),
        "regions": "finds its own, told how many" if isinstance(method, RegionMethod) else "",
        "seed": "" if method.seeded else "makes no difference",
        "speed": "minutes a fit" if method.slow else "",
        "settings": "those of the study"
        if method.follows_setting
        else ", ".join(f"{key} {value}" for key, value in settings.items()),
        "checked": method.checked,
        "packages": ", ".join(method.requirements) if isinstance(method, PackageMethod) else "",
        "state": method.missing() or "installed",
    }
    if isinstance(method, PackageMethod) and not method.missing():
        facts["state"] += f" in {method.environment()}"
    shown = Screen()
    shown.line(f"{method.name}: {method.title}")
    for word, text in facts.items():
        if text:
            shown.line(f"{word:<9} {text}")


@methods_app.command("install")
def install_package(name: Name) -> None:
    """Install the authors' package of a method, in an environment of its own.

    It goes to your cache folder and takes about 2 GB (more where torch comes with CUDA) and some minutes.
    Where it is there already, nothing happens.

    \b
    Example:
      senca methods install spagcn
    """
    from rich.console import Console
    from rich.text import Text

    from senca_ray import methods
    from senca_ray.methods.package import PackageMethod, install

    method = methods.method(name)
    if not isinstance(method, PackageMethod):
        packaged = [m.name for m in methods.all_methods().values() if isinstance(m, PackageMethod)]
        raise SencaError(
            f"{name} runs no package of its own ({method.missing() or 'nothing is missing'}); "
            f"those that do: {', '.join(packaged)}"
        )
    if method.missing():
        with Console().status("") as status:

            def tell(line: str) -> None:
                status.update(Text(f"{name}: {line}", overflow="ellipsis", no_wrap=True))

            install(method, tell)
    Screen().line(f"{name} is installed: {method.environment()}")


def _clusterings(method: Method) -> str:
    """Its clusterings, the usual one first; 'own' are regions it finds itself."""
    return ", ".join(method.clusterings) or "the study's"
