"""Load a role's Python files as Ansible would: modules by path, module_utils under ansible.module_utils."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parent / "fixtures"


def load(path: str, name: str | None = None) -> ModuleType:
    """Load `path` (from the repository's root) under `name`."""
    file = ROOT / path
    spec = importlib.util.spec_from_file_location(name or f"role_{file.stem.replace('-', '_')}", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def load_utils(role: str, *names: str) -> list[ModuleType]:
    """Make a role's module_utils importable, in the order they need each other."""
    return [load(f"roles/{role}/module_utils/{name}.py", f"ansible.module_utils.{name}") for name in names]


def load_kafka_utils() -> None:
    """Make the module_utils that the kafka role needs importable."""
    load_utils("daemon", "daemon_host", "daemon_unit")
    load_utils("kafka", "kafka_protocol", "kafka_cluster", "kafka_meta")
