"""The commands ``plugins new``, ``plugins check`` and ``plugins list``, for authors of plugins."""

from pathlib import Path
from typing import Annotated, Any

import typer

from prunebench.cli.examples import examples_of
from prunebench.cli.executor import Executors
from prunebench.cli.output import print_json, print_message, print_table
from prunebench.quiet import quiet_libraries

app = typer.Typer(name="plugins", help="Write a plugin of your own, and check it.", no_args_is_help=True)

PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="A Python file with plugins not yet packaged; repeatable."),
]


@app.command(
    "new",
    short_help="Write a package with a plugin, its test, a suite and a workflow.",
    epilog=examples_of("plugins new"),
)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name, as my-method.")],
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="method, allocation, evaluation, corpus or wrapper.")
    ] = "method",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder to make.  [default: ./NAME]")
    ] = None,
) -> None:
    """Write a complete package with a plugin that works, its test, a suite, and a workflow for CI."""
    with quiet_libraries():
        from prunebench.registry.describe import describe_all
        from prunebench.registry.entry_points import KINDS, sources
        from prunebench.registry.reading import PluginFiles
        from prunebench.scaffold import new_plugin

        with Executors() as processes:
            installed = describe_all(PluginFiles((), processes))
        taken = sources(KINDS[kind]) if kind in KINDS else ()
    folder = output or Path(name)
    comparable = [method["name"] for method in installed if method["error"] is None and not method["options"]]
    for path in new_plugin(name, folder, kind=kind, taken=taken, beside=comparable):
        typer.echo(str(path))
    typer.echo(f"next: cd {folder} && pip install -e . pytest && pytest && prunebench run suite.yaml", err=True)


@app.command(
    "check", short_help="Check a method against every rule of the contract.", epilog=examples_of("plugins check")
)
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A method.")],
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="An option of the method, to make it quick; repeatable."),
    ] = None,
    plugin: PluginFiles = None,
    architecture: Annotated[
        list[str] | None, typer.Option("--architecture", metavar="NAME", help="Only this tiny model; repeatable.")
    ] = None,
    pattern: Annotated[
        list[str] | None, typer.Option("--pattern", metavar="SPARSITY", help="In place of the usual; repeatable.")
    ] = None,
    in_process: Annotated[
        bool,
        typer.Option("--in-process", envvar="PRUNEBENCH_IN_PROCESS", help="Run the method in this process; to debug."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer with JSON.")] = False,
) -> None:
    """Run a method on tiny models and check every rule of the contract; exit code 1 where one does not hold.

    The method runs in processes of its own, as in a sweep.
    """
    with quiet_libraries():
        from prunebench.testing import check as check_method

        result = check_method(
            name,
            _parse_options(override or []),
            architectures=architecture or (),
            patterns=pattern or (),
            files=plugin or (),
            in_process=in_process,
        )
    verdicts = list(result.verdicts.values())
    if result.skipped:
        print_message(f"{result.method} is not for {', '.join(result.skipped)}: not tried")
    if as_json:
        print_json(
            {
                "method": result.method,
                "distribution": result.distribution,
                "version": result.version,
                "holds": result.holds,
                "rules": {
                    verdict.rule.name: {
                        "promise": verdict.rule.promise,
                        "trials": verdict.tried,
                        "holds": verdict.holds if verdict.tried else None,
                        "breaches": [{"where": where, "measured": measured} for where, measured in verdict.breaches],
                        "mend": None if verdict.holds else verdict.rule.mend,
                    }
                    for verdict in verdicts
                },
            }
        )
    else:
        failed = [verdict for verdict in verdicts if not verdict.holds]
        checked = [verdict for verdict in verdicts if verdict.tried]
        title = f"{result.method} ({result.distribution} {result.version})" if result.distribution else result.method
        print_table(
            f"{title}: {len(checked) - len(failed)} of {len(checked)} rules hold",
            ("rule", "what is promised", "trials", "verdict"),
            [
                (
                    verdict.rule.name,
                    verdict.rule.promise,
                    str(verdict.tried),
                    ("holds" if verdict.holds else "fails") if verdict.tried else "–",
                )
                for verdict in verdicts
            ],
        )
        for verdict in failed:
            typer.echo(f"\n{verdict}")
    if not result.holds:
        raise typer.Exit(1)


def _parse_options(overrides: list[str]) -> dict[str, Any]:
    from yaml import YAMLError

    from prunebench.errors import UsageError
    from prunebench.yaml12 import error_line, read_yaml

    options = {}
    for override in overrides:
        option, equals, value = override.partition("=")
        if not equals or not option:
            raise UsageError(f"--set {override!r} is no option=value: write, say, --set steps=4")
        try:
            options[option] = read_yaml(value)
        except YAMLError as error:
            raise UsageError(f"--set {override!r}: the value is no valid YAML: {error_line(error)}") from None
    return options


@app.command("list", short_help="List every plugin of every kind.", epilog=examples_of("plugins list"))
def list_plugins(
    plugin: PluginFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer with JSON.")] = False,
) -> None:
    """List every plugin of every kind, with its package and why it fails to load, if it does."""
    with quiet_libraries():
        from prunebench.registry.describe import describe_plugins
        from prunebench.registry.reading import PluginFiles

        with Executors() as processes:
            installed = describe_plugins(PluginFiles(plugin or (), processes))
    if as_json:
        print_json(installed)
        return
    print_table(
        "Installed plugins",
        ("kind", "name", "distribution", "version", "state"),
        [
            (plugin["kind"], plugin["name"], plugin["distribution"], plugin["version"], plugin["error"] or "ok")
            for plugin in installed
        ],
    )
