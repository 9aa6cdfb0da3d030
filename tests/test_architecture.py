"""The rules of the code base: who may import whom, and what nobody may do (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"sfbench": "sfbench", "reference": "sfbench.reference", "tasks": "sfbench.tasks"}
FILES = [path for folder in PACKAGES for path in sorted((ROOT / folder).glob("*.py"))]
TREES = {path: ast.parse(path.read_text()) for path in FILES}
ALL = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")

HARNESS_TYPES = {
    *("adapters.py", "data.py", "machines.py", "streaming.py"),
    *("wan.py", "wan_doctor.py", "wan_options.py"),
}
"""The files of the reference that may know the harness."""
LAYERS = [
    *("config schedule", "masks attention products recorded", "slots blocks", "model", "engine"),
    *("rollout", "objective*", "trainer"),
]
MAGIC = {1560, 32760, 832}  # sizes of one published model: they stand in its preset alone
LONGEST = 400
DANGEROUS = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib", "cloudpickle"}


# --- who imports whom -----------------------------------------------------------------------------


def module(path: Path) -> str:
    """The import name of a file."""
    package = PACKAGES[path.parent.name]
    return package if path.stem == "__init__" else f"{package}.{path.stem}"


def imports(path: Path, tree: ast.AST | None = None) -> Iterator[str]:
    """Every module a file imports, and for ``from a import b`` also ``a.b``; absolute names."""
    package = PACKAGES[path.parent.name]
    for node in ast.walk(tree or TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (up, node.module) if part)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def starts(name: str, *prefixes: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@ALL
def test_imports_keep_to_their_side(path: Path) -> None:
    """The harness knows the others as strings; tasks and reference do not know each other."""
    forbidden = {
        "sfbench": ("sfbench.reference", "sfbench.tasks", "reference", "tasks"),
        "tasks": ("sfbench.reference", "reference", "torch"),
        "reference": ("sfbench.tasks", "tasks"),
    }[path.parent.name]
    assert [name for name in imports(path) if starts(name, *forbidden)] == []


@ALL
def test_the_reference_stands_alone(path: Path) -> None:
    """It imports its siblings relatively; without its two adapter files it needs no harness."""
    if path.parent.name != "reference":
        return
    for node in ast.walk(TREES[path]):
        if (
            isinstance(node, ast.ImportFrom)
            and not node.level
            and starts(node.module or "", "sfbench")
        ):
            assert path.name in HARNESS_TYPES
            assert not starts(node.module or "", "sfbench.reference"), "import siblings relatively"
        if isinstance(node, ast.Import):
            assert not any(starts(alias.name, "sfbench") for alias in node.names)


def test_the_reference_is_in_layers() -> None:
    """Each layer imports only lower ones."""
    height = {
        path: level
        for level, patterns in enumerate(LAYERS)
        for pattern in patterns.split()
        for path in (ROOT / "reference").glob(f"{pattern}.py")
    }
    by_module = {module(path): level for path, level in height.items()}
    upwards = [
        f"{path.name} imports {name}"
        for path, level in height.items()
        for name in imports(path)
        if by_module.get(name, -1) > level
    ]
    assert upwards == []


def test_there_are_no_cycles() -> None:
    known = {module(path): path for path in FILES}
    graph = {
        name: {found for found in imports(path, at_import(path)) if found in known} - {name}
        for name, path in known.items()
    }
    done: set[str] = set()
    while ready := {name for name in graph.keys() - done if graph[name] <= done}:
        done |= ready
    assert graph.keys() - done == set()


def at_import(path: Path) -> ast.Module:
    """What runs when a file is imported: not functions, not what only a type checker reads."""
    body = []
    for node in TREES[path].body:
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) and not for_types:
            body.append(node)
    return ast.Module(body=body, type_ignores=[])


# --- what nobody may do ---------------------------------------------------------------------------


@ALL
def test_no_code_runs_from_data(path: Path) -> None:
    assert [name for name in imports(path) if name.partition(".")[0] in DANGEROUS] == []
    for node in ast.walk(TREES[path]):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in {"eval", "exec", "yaml.load", "os.system", "os.popen"}
        given = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}
        assert given.get("shell") in (None, "False")
        assert given.get("allow_pickle") in (None, "False")
        assert given.get("weights_only") == ("True" if called == "torch.load" else None)


@ALL
def test_only_the_clock_reads_a_clock(path: Path) -> None:
    if path.parent.name == "reference" or path.name == "clock.py":
        return  # training may show its progress
    assert [name for name in imports(path) if starts(name, "time", "datetime", "timeit")] == []


@ALL
def test_no_magic_sizes(path: Path) -> None:
    numbers = {
        node.value
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Constant) and type(node.value) is int
    }
    assert numbers & MAGIC == set()


@ALL
def test_a_file_is_one_thing_and_says_which(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST
    assert path.stem not in {"utils", "util", "helpers", "misc", "common"}
    assert ast.get_docstring(TREES[path])


@pytest.mark.parametrize("folder", PACKAGES)
def test_folders_are_flat(folder: str) -> None:
    assert {path.parent for path in (ROOT / folder).rglob("*.py")} == {ROOT / folder}


@ALL
def test_a_file_says_nothing_of_where_it_was_written(path: Path) -> None:
    text = path.read_text()
    assert "/home/" not in text
    assert "/Users/" not in text
    assert "TODO" not in text
    assert "FIXME" not in text


# --- what is slow is imported late ----------------------------------------------------------------

HEAVY = {"torch", "transformers", "diffusers"}
SLOW = HEAVY | {"pandas", "scipy", "matplotlib", "av", "numpy"}
CHECK = """
import shlex, sys
from sfbench import cli
for command in sys.argv[1:]:
    try:
        cli.main(shlex.split(command))
    except SystemExit as stop:
        assert not stop.code, (command, stop.code)
print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def loaded(code: str, *commands: str) -> set[str]:
    """Top-level packages in ``sys.modules`` of a child at its end."""
    done = subprocess.run(
        [sys.executable, "-c", code, *commands], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [("--help", SLOW), ("run --help", SLOW), ("list", SLOW), ("list methods --json", SLOW)],
)
def test_help_and_list_import_nothing_slow(arguments: str, absent: set[str]) -> None:
    assert loaded(CHECK, arguments) & absent == set()


def test_a_cheat_and_a_report_need_no_torch(tmp_path: Path) -> None:
    out = shlex.quote(str(tmp_path / "out"))
    model = f"run --model cheat:noise --tier smoke --limit 2 --out {out}"
    assert loaded(CHECK, model, f"report {out}") & HEAVY == set()


def test_the_harness_imports_no_torch() -> None:
    names = [module(path) for path in FILES if path.parent.name != "reference"]
    names = [name for name in names if not name.endswith("__main__")]
    code = f"import sys, {', '.join(names)}\nprint('LOADED', *sys.modules)"
    assert loaded(code) & HEAVY == set()
