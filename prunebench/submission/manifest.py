"""``submission.yaml``: who contributes a folder of results, under which license, and the suite that it came from."""

from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from prunebench.errors import suggest
from prunebench.files import irregular
from prunebench.submission.finding import Finding
from prunebench.suite.fields import Strict
from prunebench.suite.file import explain
from prunebench.yaml12 import error_line, read_yaml_file

MANIFEST = "submission.yaml"
LICENSES = ("Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "MIT")


class Manifest(Strict):
    """What a contributor says of a folder.

    Args:
        contributor: a name, of a person or a group.
        license: of the records and arrays, one of ``LICENSES``.
        suite: name of the suite file in the folder.
        code: where the code of the methods is that do not come with prunebench.
        contact: how to reach the contributor.
    """

    contributor: str = Field(min_length=1)
    license: str
    suite: str = "suite.yaml"
    code: str = ""
    contact: str = ""


def read_manifest(folder: Path) -> tuple[Manifest | None, list[Finding]]:
    """The manifest of a folder, and what is wrong with it."""
    path = folder / MANIFEST
    advice = f"write one with the lines 'contributor: NAME' and 'license: {LICENSES[4]}'"
    if irregular(path) or not path.is_file():
        return None, [Finding(MANIFEST, f"there is none: {advice}")]
    try:
        content = read_yaml_file(path)
        manifest = Manifest.model_validate(content if isinstance(content, dict) else {})
    except ValidationError as error:
        return None, [Finding(MANIFEST, f"{explain(error)}: {advice}")]
    except yaml.YAMLError as error:
        return None, [Finding(MANIFEST, f"it is no valid YAML: {error_line(error)}")]
    except (OSError, UnicodeDecodeError):
        return None, [Finding(MANIFEST, "it cannot be read as a text in UTF-8")]
    if manifest.license not in LICENSES:
        what = f"license {manifest.license!r} is not accepted: {suggest(manifest.license, LICENSES)}"
        return manifest, [Finding(MANIFEST, what)]
    return manifest, []
