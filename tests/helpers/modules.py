"""Modules that belong to no package, loaded from their files."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def module_from(path: Path, name: str) -> ModuleType:
    """Import a file under a name."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
