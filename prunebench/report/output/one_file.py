"""A page as one file: its style and script are inside, it loads nothing, and no other script may run."""

import base64
import hashlib
from importlib.resources import files

import jinja2
from markupsafe import Markup

from prunebench import text


def shared(name: str) -> str:
    """A template, style or script that several pages have a part of."""
    return (files("prunebench.report.output") / "templates" / name).read_text(encoding="utf-8")


def render(template: str, style: str, script: str, **context: object) -> str:
    """Render a page; all that is put into it is escaped.

    Args:
        template: in Jinja; takes ``style``, ``script`` and the digest by which its policy lets that script alone run.
        style: CSS.
        script: JavaScript; ``sort.js`` comes before it.
        context: what else the template takes.
    """
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    whole = shared("sort.js") + script
    digest = base64.b64encode(hashlib.sha256(whole.encode()).digest()).decode()
    return page.from_string(template).render(
        style=Markup(style), script=Markup(whole), script_digest=digest, printable=text.printable, **context
    )
