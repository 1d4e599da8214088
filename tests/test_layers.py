"""The house rules that a program can check."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "panembed"
FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.slow
def test_import_contracts():
    command = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def name_of(path):
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_short_and_explained(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 450
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "the file has no docstring"
    assert list(undocumented(tree)) == []


def undocumented(node, prefix=""):
    """Public functions and classes without a docstring, and public methods but for those of `__init__`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if child.name.startswith("_") or "overload" in [getattr(d, "id", "") for d in child.decorator_list]:
                continue
            if ast.get_docstring(child) is None:
                yield prefix + child.name
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, f"{prefix}{child.name}.")


def test_no_drawers_for_odds_and_ends():
    forbidden = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert [name_of(p) for p in SOURCE.rglob("*") if p.stem in forbidden] == []


def test_names_of_test_files_are_unique():
    """Without packages of tests pytest can't tell two files of one name apart."""
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
