"""What contributors read is true: recipes exist, workflows call nothing else, versions agree, links lead somewhere."""

import re
import tomllib

import pytest
import yaml

from tests.helpers.paths import ROOT

RECIPES = re.findall(r"@nox\.session\ndef (\w+)\(", (ROOT / "noxfile.py").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_every_recipe_is_there() -> None:
    assert sorted(RECIPES) == ["build", "docs", "lint", "pr", "smoke", "test"]
    for name in re.findall(r"nox (?:--no-venv )?-s (\w+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        assert name in RECIPES


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_the_recipes_of_a_developer(path: object) -> None:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]  # type: ignore[attr-defined]
    for job in jobs.values():
        matrix = job["strategy"]["matrix"]
        for step in job["steps"]:
            if "run" in step:
                found = re.fullmatch(r"pipx run (?:--python .+ )?nox -s (\w+|\$\{\{ matrix\.recipe \}\})", step["run"])
                assert found, step["run"]
                recipe = found[1]
                assert set(matrix.get("recipe", [recipe])) <= set(RECIPES)
    versions = jobs["test"]["strategy"]["matrix"]
    assert versions["python"] == [*re.findall(r"3\.\d+", PROJECT["requires-python"]), "3.12", "3.13"]
    assert versions["include"] == [{"python": "3.11", "versions": "oldest"}]


def test_the_oldest_versions_are_those_that_the_package_admits() -> None:
    floors = dict(re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", entry).groups() for entry in PROJECT["dependencies"])  # type: ignore[union-attr]
    pins = re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "oldest.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {"torch", "transformers", "lm-eval"} <= {name for name, _ in pins}
    for name, version in pins:
        assert f"{version}.".startswith(f"{floors[name]}."), name


def test_the_citation_and_the_changelog_name_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert f"## {PROJECT['version']}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md", "README.md"])
def test_links_and_paths_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / target).exists(), target
    if name == "CONTRIBUTING.md":
        for path in re.findall(r"`((?:plugins|docs|tests|prunebench|suites|results)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), path
