"""The house rules that a program can check: import directions, sizes, asserts, matched errors.

Not here: style and types, which ruff and mypy check.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "striate"
FLOORS = [
    {"__main__"},
    {"cli"},
    {"sklearn"},
    {"plot"},
    {"interpret"},
    {"models"},
    {"torch_bridge", "jit", "fx", "utils", "train"},
    {"torch_names"},
    {"inspect", "data", "optim", "formats", "measure", "filters"},
    {"nn"},
    {"program"},
    {"kernels"},
    {"codegen"},
    {"graph"},
    {"formula"},
    {"shapes", "files", "settings", "random"},
    {"errors", "version"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
MOST_FILE_LINES, MOST_FUNCTION_LINES = 600, 60

SOURCES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def label(path: Path, line: int = 0) -> str:
    return f"{path.relative_to(ROOT)}:{line}" if line else str(path.relative_to(ROOT))


def imported(node: ast.AST) -> Iterator[str]:
    """The modules of the package that an import statement names, as "train.fit"."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module is not None:
        whole = node.module == "striate"
        names = [f"striate.{a.name}" for a in node.names] if whole else [node.module]
    else:
        return
    yield from (n.removeprefix("striate.") for n in names if n.startswith("striate."))


def upward_imports(path: Path, source: ast.Module) -> list[str]:
    """Imports of a floor above, or beside: anywhere in the file, in functions and for types too."""
    home = path.relative_to(SOURCE).with_suffix("").parts[0]
    found = []
    for node in ast.walk(source):
        for name in imported(node):
            floor = name.partition(".")[0]
            if floor == home:
                continue
            if floor not in LEVEL or LEVEL[floor] <= LEVEL[home]:
                found.append(f"{label(path, getattr(node, 'lineno', 0))}: {home} imports {name}")
    return found


def asserts(path: Path, source: ast.Module) -> list[str]:
    return [label(path, n.lineno) for n in ast.walk(source) if isinstance(n, ast.Assert)]


def long_functions(path: Path, source: ast.Module) -> list[str]:
    """Functions whose body, without its docstring, is longer than a screen."""
    found = []
    for node in ast.walk(source):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        length = node.body[-1].end_lineno - body[0].lineno + 1 if body else 0
        if length > MOST_FUNCTION_LINES:
            found.append(f"{label(path, node.lineno)}: {node.name} has {length} lines")
    return found


def unmatched_raises(path: Path, source: ast.Module) -> list[str]:
    """`pytest.raises` without `match`: it would take any message."""
    found = []
    for node in ast.walk(source):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises":
            if not any(keyword.arg == "match" for keyword in node.keywords):
                found.append(label(path, node.lineno))
    return found


def facade_uses(path: Path, source: ast.Module) -> list[str]:
    """Uses of the package's own file, which has the names of all floors, from inside it."""
    bare = any(
        isinstance(n, ast.Import) and any(a.name == "striate" for a in n.names)
        for n in ast.walk(source)
    )
    if not bare:
        return []
    return [
        label(path, n.lineno)
        for n in ast.walk(source)
        if isinstance(n, ast.Attribute)
        and isinstance(n.value, ast.Name)
        and n.value.id == "striate"
        and n.attr != "__file__"
    ]


def test_every_floor_is_known() -> None:
    folders = {p.parent.name if p.name == "__init__.py" else p.stem for p in SOURCE.glob("*.py")}
    folders |= {p.parent.name for p in SOURCE.glob("*/__init__.py")}
    folders |= {p.parent.name for p in SOURCE.glob("*/*.py")}
    assert folders - {"striate"} == set(LEVEL)


def test_imports_go_only_downward() -> None:
    wrong = [w for p in SOURCES if p.parent != SOURCE for w in upward_imports(p, tree(p))]
    wrong += [w for p in SOURCE.glob("*.py") if p.stem in LEVEL for w in upward_imports(p, tree(p))]
    assert not wrong, "\n".join(wrong)


def test_the_import_contract_of_the_project_file_holds() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    from importlinter.api import read_configuration

    (contract,) = read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    assert [{n.strip() for n in layer.split("|")} for layer in contract["layers"]] == FLOORS
    assert str(contract["exhaustive"]) == "True"
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


def test_the_package_does_not_reach_round_through_its_own_file() -> None:
    wrong = [w for p in SOURCES for w in facade_uses(p, tree(p))]
    assert not wrong, "\n".join(wrong)


def test_no_assert_guards_the_package() -> None:
    wrong = [w for p in SOURCES for w in asserts(p, tree(p))]
    assert not wrong, "\n".join(wrong)


def test_functions_are_short() -> None:
    wrong = [w for p in SOURCES for w in long_functions(p, tree(p))]
    assert not wrong, "\n".join(wrong)


def test_files_are_short() -> None:
    lengths = {label(p): len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    wrong = [f"{name}: {count} lines" for name, count in lengths.items() if count > MOST_FILE_LINES]
    assert not wrong, "\n".join(wrong)


def test_every_file_says_what_it_is() -> None:
    wrong = [label(p) for p in SOURCES if p.stat().st_size and not ast.get_docstring(tree(p))]
    assert not wrong, "\n".join(wrong)


def test_every_expected_error_is_matched() -> None:
    wrong = [w for p in TESTS for w in unmatched_raises(p, tree(p))]
    assert not wrong, "\n".join(wrong)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys; import striate; from striate import nn; "
        "print(' '.join(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"llvmlite", "matplotlib", "PIL", "rich", "typer", "safetensors", "torch", "http"}
    assert not heavy & set(done.stdout.split())


# ---- the checkers themselves ------------------------------------------------------------------

BAD = """
def upward():
    from striate.train.fit import fit
    assert fit
    with pytest.raises(ValueError):
        pass
"""


def test_the_checkers_see_what_is_wrong() -> None:
    path, source = SOURCE / "nn" / "bad.py", ast.parse(BAD)
    assert upward_imports(path, source) == ["src/striate/nn/bad.py:3: nn imports train.fit"]
    assert asserts(path, source) == ["src/striate/nn/bad.py:4"]
    assert unmatched_raises(path, source) == ["src/striate/nn/bad.py:5"]
    long = ast.parse("def f():\n" + "    x = 1\n" * (MOST_FUNCTION_LINES + 1))
    assert long_functions(path, long) == ["src/striate/nn/bad.py:1: f has 61 lines"]
    through = ast.parse("import striate\nstriate.plot.save()\nstriate.__file__")
    assert facade_uses(path, through) == ["src/striate/nn/bad.py:2"]


@pytest.mark.parametrize("source", ["from striate import plot", "import striate.plot as p"])
def test_the_checker_sees_every_form_of_import(source: str) -> None:
    assert upward_imports(SOURCE / "nn" / "bad.py", ast.parse(source))
