"""The command ``methods``: the installed methods, or the options of one."""

import json
from typing import Annotated

import typer

from prunebench.cli.completion import method_names
from prunebench.cli.executor import Executors
from prunebench.cli.output import AsJson, print_json, print_table
from prunebench.cli.plugins import PluginFiles
from prunebench.quiet import quiet_libraries


def methods(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A method, to see its options.", autocompletion=method_names),
    ] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List the installed methods, or the options of one.

    Those of other packages are imported by processes of their own.
    """
    with quiet_libraries():
        from prunebench.registry.describe import describe, describe_all
        from prunebench.registry.reading import PluginFiles

        with Executors() as processes:
            files = PluginFiles(plugin or (), processes)
            description = describe(name, files) if name is not None else describe_all(files)
    if as_json:
        print_json(description)
    elif isinstance(description, list):
        rows = [
            (
                method["name"],
                method["distribution"] or "–",
                method["version"] or "–",
                f"error: {method['error']}" if method["error"] else method["summary"],
            )
            for method in description
        ]
        print_table("Installed methods", ("method", "distribution", "version", "summary"), rows)
    else:
        title = (
            f"{description['name']} ({description['distribution']} {description['version']}): {description['summary']}"
        )
        rows = [
            (option["name"], option["type"], json.dumps(option["default"]), option["docs"])
            for option in description["options"]
        ]
        print_table(title if rows else f"{title} It has no options.", ("option", "type", "default", "what"), rows)
