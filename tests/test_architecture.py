"""The directions of imports, and what the command line imports before it is asked for anything."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "labtool"
LOW = {"errors", "topology", "ssh", "progress", "config", "content", "files", "lock"}
MAY_IMPORT = {
    "cli": {"experiment", "collect", "ansible", "cloud", "report", "analysis", "dataset", "localcloud", "stacks"},
    "experiment": {"collect", "ansible", "cloud", "dataset", "stacks"},
    "collect": {"dataset"},
    "ansible": {"dataset"},
    "cloud": set(),
    "report": {"analysis", "dataset"},
    "analysis": {"dataset"},
    "dataset": set(),
    "localcloud": set(),
    "stacks": set(),
}
HOMES = {
    "ansible_runner": {"ansible"},
    "boto3": {"cloud"},
    "moto": {"localcloud"},
    "seaborn": {"report"},
    "matplotlib": {"report"},
    "duckdb": {"dataset"},
    "typer": {"cli"},
}


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


@functools.cache
def imports(path: Path) -> frozenset[str]:
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def modules():
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(ROOT.rglob("*.py"))]


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules())
def test_imports_point_one_way(path):
    here = part(path)
    if here.startswith("__"):
        return
    allowed = MAY_IMPORT.get(here, set()) | LOW | {here}
    for name in imports(path):
        if name.startswith("labtool.") and (ROOT / name.split(".")[1]).exists():
            assert name.split(".")[1] in allowed, f"{here} must not import {name}"


@pytest.mark.parametrize("path", modules())
def test_each_heavy_library_has_one_home(path):
    for name in imports(path):
        library = name.split(".")[0]
        if library in HOMES:
            assert part(path) in HOMES[library], f"{name} belongs in {HOMES[library]}"


def test_help_imports_no_heavy_module():
    heavy = [
        "pydantic", "msgspec", "yaml", "boto3", "botocore", "moto", "ansible_runner", "ansible", "pandas", "numpy",
        "seaborn", "matplotlib", "duckdb", "pyarrow", "jinja2",
    ]  # fmt: skip
    code = (
        "import sys, json, contextlib, io\n"
        "from labtool.cli.app import run\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    code = run(['--help'])\n"
        f"print(json.dumps([code, [m for m in {heavy!r} if m in sys.modules]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]


@pytest.mark.parametrize("path", modules())
def test_one_place_tells_the_clouds_apart(path):
    """A run's record says where it was, and its report what follows; nothing else asks which cloud it is."""
    where = str(path.relative_to(ROOT))
    if where == "cli/connect.py" or part(path) in {"localcloud", "report", "analysis"}:
        return
    compared = [
        node
        for node in nodes(path)
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant) and side.value in ("aws", "local")
    ]
    known = {"cloud/session.py": 1}  # Target.billed
    assert len(compared) <= known.get(where, 0), f"{where} compares with the name of a cloud"
