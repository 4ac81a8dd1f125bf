"""The suite format as a JSON Schema, for editors: ``python -m prunebench.suite.json_schema``."""

import inspect
import json
import sys
from typing import Any

from prunebench.registry.options import argument_docs
from prunebench.suite.entries import AllocationEntry, Calibration, CalibrationChange, EngineEntry, ModelEntry
from prunebench.suite.evaluation_entries import PerplexityEntry, PluginEntry, ValidationText, ZeroShotEntry
from prunebench.suite.fields import Strict
from prunebench.suite.method_entries import MethodEntry, StageEntry, Tune
from prunebench.suite.schema import Suite

# Every mapping of a suite file, from the outside in.
PARTS: tuple[type[Strict], ...] = (
    Suite,
    ModelEntry,
    Calibration,
    MethodEntry,
    StageEntry,
    Tune,
    ValidationText,
    CalibrationChange,
    AllocationEntry,
    PerplexityEntry,
    ZeroShotEntry,
    PluginEntry,
    EngineEntry,
)


def suite_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a suite file as people write it.

    Made from the models that read the file; on top come the short forms they allow: a model's id and a method's name
    alone, and sparsities written as numbers.
    """
    schema = Suite.model_json_schema()
    definitions = schema["$defs"]
    for model in PARTS:
        part = schema if model is Suite else definitions[model.__name__]
        part["description"] = (inspect.getdoc(model) or "").partition("\n\nArgs:")[0]
        for name, text in argument_docs(model).items():
            part["properties"][name]["description"] = text
    for name in ("ModelEntry", "MethodEntry", "StageEntry", "AllocationEntry"):
        definitions[name] = {"anyOf": [{"type": "string", "minLength": 1}, definitions[name]]}
    sparsity = {
        "anyOf": [
            {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
            {"type": "string", "pattern": r"^\s*(\d{1,4}\s*:\s*\d{1,4}|0?\.\d+|0)\s*$"},
        ]
    }
    schema["properties"]["sparsities"]["items"] = sparsity
    narrowing = [definitions[name] for name in ("Tune", "PerplexityEntry", "ZeroShotEntry", "PluginEntry")]
    for part in (definitions["MethodEntry"]["anyOf"][1], *narrowing):
        for branch in part["properties"]["sparsities"]["anyOf"]:
            if branch.get("type") == "array":
                branch["items"] = sparsity
    method = definitions["MethodEntry"]["anyOf"][1]
    for owner, key, entry in (
        (schema, "allocation", "AllocationEntry"),
        (method, "allocation", "AllocationEntry"),
        (method, "then", "StageEntry"),
    ):  # one entry may stand for a list of one
        field = owner["properties"][key]
        list_schema = {
            part: field.pop(part) for part in ("type", "items", "minItems", "anyOf", "default") if part in field
        }
        list_schema.pop("default", None)
        field["anyOf"] = [{"$ref": f"#/$defs/{entry}"}, *list_schema.get("anyOf", [list_schema])]
    values = {"type": "array", "minItems": 1}
    nested = {"type": "object", "additionalProperties": values}
    definitions["Tune"]["properties"]["grid"]["additionalProperties"] = {"anyOf": [values, nested]}
    definitions["PluginEntry"]["properties"]["name"]["not"] = {"enum": ["perplexity", "zero_shot"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The schema as the file in the documentation holds it."""
    return json.dumps(suite_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
