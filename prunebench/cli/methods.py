"""The command ``methods``."""

import json
from typing import Annotated

import typer

from prunebench.cli.output import AsJson, print_json, print_table
from prunebench.cli.plugins import PluginFiles
from prunebench.quiet import quiet_libraries


def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A method, to see its options.")] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List the installed methods, or the options of one."""
    with quiet_libraries():
        from prunebench.registry.describe import describe, describe_all

        found = describe(name, plugin or ()) if name is not None else describe_all(plugin or ())
    if as_json:
        print_json(found)
    elif isinstance(found, list):
        rows = [
            (
                e["name"],
                e["distribution"] or "–",
                e["version"] or "–",
                f"error: {e['error']}" if e["error"] else e["summary"],
            )
            for e in found
        ]
        print_table("Installed methods", ("method", "distribution", "version", "summary"), rows)
    else:
        title = f"{found['name']} ({found['distribution']} {found['version']}): {found['summary']}"
        rows = [(o["name"], o["type"], json.dumps(o["default"]), o["docs"]) for o in found["options"]]
        print_table(title if rows else f"{title} It has no options.", ("option", "type", "default", "what"), rows)
