"""The documentation is true: its Python runs, its commands run, its generated parts are up to date.

Blocks of a page run in order, in one process and one empty folder, so later ones may use what
earlier ones made. `--8<-- "file"` lines are files that test_examples runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
# What .ci/run does itself, or what is no part of a run.
NOT_RUN = ("pip install", "python -m venv", "source ", "mkdocs serve", "pre-commit", ".ci/run")


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [body for found, _, body in BLOCK.findall(text) if found == language]


def python_of(page: Path) -> list[str]:
    return [b for b in blocks(page, "python") if "--8<--" not in b]


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a folder; `recipes` of the examples can be imported."""
    path = os.pathsep.join(filter(None, [str(ROOT / "examples"), os.getenv("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    "page", [p for p in PAGES if python_of(p)], ids=lambda p: str(p.relative_to(DOCS))
)
def test_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """A page that needs a data set says so in a comment, and is not run where that is absent."""
    needs = re.search(r"^<!-- needs: ([\w-]+) -->$", page.read_text(encoding="utf-8"), re.M)
    folder = os.environ.get("STRIATE_DATA", "")
    if needs and not (Path(folder) / needs[1]).exists():
        pytest.skip(f"needs {needs[1]} in $STRIATE_DATA")
    done = run_python("\n".join(python_of(page)), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["cli.md", "cache.md"])
def test_commands_of_a_page_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "cache.md":  # one of its commands clears the cache
        monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    text = (DOCS / name).read_text(encoding="utf-8")
    for title, body in re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', text, re.S | re.M):
        (tmp_path / title).write_text(body, encoding="utf-8")
    run = 0
    for block in blocks(DOCS / name, "sh"):
        for line in block.splitlines():
            if not line.startswith(NOT_RUN):
                run_command(line, tmp_path)
                run += 1
    assert run


def run_command(line: str, folder: Path) -> str:
    """Run a `striate …` line as written; returns what it printed."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "striate", f"no way to run: {line}"
    code = f"from striate.cli.main import main; main({arguments!r})"
    done = run_python(code, folder)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_excerpts_of_machine_code_are_up_to_date() -> None:
    made = script("machine_code")
    page = made.PAGE.read_text(encoding="utf-8")
    assert made.render(page) == page, "run: python docs/scripts/machine_code.py --write"


def test_the_page_of_operations_and_the_counts_are_up_to_date() -> None:
    """In a process of its own: other tests register operations."""
    path = DOCS / "scripts" / "operations.py"
    done = run_python(f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')", ROOT)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def overview(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script of that page, with the library's own operations."""
    made = script("operations")
    own = {entry.op for title in made.FAMILIES for entry in made.entries(title)}
    monkeypatch.setattr(made, "OPERATIONS", {name: made.OPERATIONS[name] for name in own})
    return made


def test_the_page_of_operations_has_all_of_them(overview: ModuleType) -> None:
    page = overview.PAGE.read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {row.split("`")[1] for row in rows} == set(overview.OPERATIONS)
    for name in (*overview.layers(), *overview.functions()):
        assert any(f"`{name}`" in row for row in rows), name
    for operation in overview.OPERATIONS.values():
        assert not operation.has_formula or re.search(f"^{operation.name}: .*\n  ", page, re.M)


def test_onnx_operators_that_the_page_names_are_known(overview: ModuleType) -> None:
    pytest.importorskip("onnx")
    from striate.formats.onnx.registry import handlers

    named = {
        n for title in overview.FAMILIES for e in overview.entries(title) for n in e.onnx.split()
    }
    assert named <= set(handlers())


def test_what_the_page_of_operations_lacks_is_named(
    overview: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = overview.PAGE.read_text(encoding="utf-8")
    without = [name for name in overview.functions() if name != "adain"]
    twice = {**overview.FAMILIES, "Again": overview.FAMILIES["Recurrence"]}
    changes = {
        ("OPERATIONS", "operations that the page lacks: mine"): {**overview.OPERATIONS, "mine": 0},
        ("APART", "layers that the page lacks: Identity, Operation, OperationLoss"): (),
        ("functions", "functions on the page that do not exist: adain"): lambda: without,
        ("FAMILIES", "on the page twice: gru_state, lstm_output, lstm_state"): twice,
    }
    for (name, message), value in changes.items():
        with monkeypatch.context() as patch:
            patch.setattr(overview, name, value)
            with pytest.raises(ValueError, match=message):
                overview.render(page)
    with pytest.raises(ValueError, match="expected <!-- generated: end --> once; got it 0 times"):
        overview.render(page.replace(overview.GENERATED[1], ""))


def test_a_page_of_operations_that_is_old_is_refused(
    overview: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "index.md"
    text = overview.PAGE.read_text(encoding="utf-8")
    old.write_text(text.replace("conv2d", "convolution"), encoding="utf-8")
    monkeypatch.setattr(overview, "pages", lambda: [(old, overview.render)])
    monkeypatch.setattr(sys, "argv", ["operations.py"])
    with pytest.raises(SystemExit, match=r"index\.md is not up to date; run with --write"):
        overview.main()
    monkeypatch.setattr(sys, "argv", ["operations.py", "--write"])
    overview.main()
    assert "| `conv2d` |" in old.read_text(encoding="utf-8")


def test_every_layer_and_function_is_on_the_page_of_a_family(overview: ModuleType) -> None:
    pages = [p for p in (DOCS / "operations").glob("*.md") if p.stem not in ("index", "onnx")]
    text = "\n".join(p.read_text(encoding="utf-8") for p in pages)
    words = set(re.findall(r"\w+", text))
    stems = {re.sub(r"[123]d$", "", word) for word in words if re.search(r"[123]d$", word)}
    for name in (*overview.layers(), *overview.functions()):
        in_short = re.search(r"[123]d$", name) and name[:-2] in stems  # `MaxPool1d`, `2d`, `3d`
        assert name in words or in_short, name


def test_the_shown_loop_spills_nothing() -> None:
    made = script("machine_code")
    text = made.machine(made.network())
    assert ", 0 vector spills" in text
    assert text.count("vfmadd") >= 10


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    targets = [t for t in LINK.findall(text) if "://" not in t]
    targets += re.findall(r'src="([^"]+)"', text)
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert not missing


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r": ([\w/-]+\.md)$", text, re.M))
    assert named == {str(p.relative_to(DOCS)) for p in PAGES}


def test_the_start_links_to_every_page() -> None:
    links = set(LINK.findall((DOCS / "index.md").read_text(encoding="utf-8")))
    assert {str(p.relative_to(DOCS)) for p in PAGES} <= links | {"index.md"}


def test_snippets_exist() -> None:
    for page in PAGES:
        for name in re.findall(r'--8<-- "([^"]+)"', page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{page}: {name}"


def test_the_api_pages_name_modules_that_exist() -> None:
    for page in (DOCS / "api").glob("*.md"):
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.M):
            module = name if importable(name) else name.rpartition(".")[0]
            assert importable(module), f"{page.name}: {name}"
            if module != name:
                assert hasattr(sys.modules[module], name.rpartition(".")[2]), name


HOMES = (
    *("", ".nn", ".nn.functional", ".nn.init", ".nn.scalar"),
    *(".filters", ".inspect", ".interpret", ".plot"),
)


@pytest.mark.parametrize("name", HOMES)
def test_public_names_are_on_the_api_pages(name: str) -> None:
    pages = "\n".join(p.read_text(encoding="utf-8") for p in (DOCS / "api").glob("*.md"))
    shown = set(re.findall(r"^::: (\S+)$", pages, re.M))
    home = importlib.import_module(f"striate{name}")
    for public in getattr(home, "__all__", dir(home)):
        thing = getattr(home, public)
        module = getattr(thing, "__module__", None) or ""
        if module.startswith("striate.") and not public.startswith("_"):
            assert {module, f"{module}.{thing.__qualname__}"} & shown, f"{module}: {public}"


def importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def test_every_environment_variable_is_documented() -> None:
    pattern = re.compile(r"\bSTRIATE_[A-Z]+(?:_[A-Z]+)*\b")
    used = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in pattern.findall(path.read_text(encoding="utf-8"))
    }
    page = (DOCS / "getting-started.md").read_text(encoding="utf-8")
    assert used == set(pattern.findall(page))
