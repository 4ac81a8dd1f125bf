"""Recipes for contributors and for continuous integration: ``nox -s lint``, ``nox -s pr``, ``nox --list``.

Each session installs the checkout in an environment of its own. ``nox --no-venv -s lint`` uses the environment that is
active instead, which must have ``pip install -e '.[dev,docs]'``. ``PRUNEBENCH_CONSTRAINTS=oldest.txt`` pins versions.
"""

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["pr"]
nox.options.reuse_existing_virtualenvs = True

CONSTRAINTS = os.environ.get("PRUNEBENCH_CONSTRAINTS")
QUICK = ("-m", "not gpu and not shared")


def install(session: nox.Session, extras: str = "dev") -> None:
    """Install the checkout, unless the active environment is used."""
    if session.virtualenv.is_sandboxed:
        pins = ["-c", CONSTRAINTS] if CONSTRAINTS else []
        session.install("-e", f".[{extras}]", *pins)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def test(session: nox.Session) -> None:
    """The tests but for slow ones; what follows -- goes to pytest, as in: nox -s test -- --slow -k walk."""
    install(session)
    session.run("pytest", "-n", "2", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, strictly."""
    install(session, "dev,docs")
    session.run("mkdocs", "build", "--strict", "--quiet", "--site-dir", "build/site", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def smoke(session: nox.Session) -> None:
    """The smallest suite, held against its reference records."""
    install(session)
    output = Path("build") / "smoke"
    shutil.rmtree(output, ignore_errors=True)
    session.run("python", "-m", "prunebench", "run", "suites/smoke.yaml", "--output", str(output))
    session.run("python", "-m", "prunebench", "compare", "results/reference/smoke", str(output))


@nox.session
def build(session: nox.Session) -> None:
    """The package, built and checked."""
    install(session)
    shutil.rmtree(Path("build") / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", "build/dist", ".")
    session.run("twine", "check", "--strict", *sorted(map(str, Path("build/dist").iterdir())))


@nox.session
def pr(session: nox.Session) -> None:
    """What a pull request is checked for, quick tests only: lint, test, docs, smoke."""
    for name in ("lint", "docs", "smoke"):
        session.notify(name)
    session.notify("test", posargs=QUICK)
