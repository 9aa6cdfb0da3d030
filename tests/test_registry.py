"""Names: those in the table resolve, those of plugins are found, and unknown ones are explained."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from sfbench import registry

TARGETS = sorted({target for kind in registry.BUILTINS.values() for target in kind.values()})


@pytest.mark.parametrize("target", TARGETS)
def test_every_builtin_is_defined(target: str) -> None:
    module, _, attribute = target.partition(":")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    assert attribute in {name for node in tree.body for name in _named(node)}


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(registry.UnknownName, match="did you mean long-horizon"):
        registry.load("tasks", "longhorizon")


def test_a_plugin_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path / "a", "a", "fake = fakes:FakeTask", monkeypatch)
    assert registry.load("tasks", "fake").__name__ == "FakeTask"
    assert "long-horizon" in registry.providers("tasks")


def test_two_providers_of_a_name_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path / "a", "a", "fake = fakes:FakeTask", monkeypatch)
    _install(tmp_path / "b", "b", "fake = other:Task", monkeypatch)
    with pytest.raises(registry.UnknownName, match=r"fakes:FakeTask.*other:Task|other:Task.*fakes"):
        registry.providers("tasks")


def _named(node: ast.stmt) -> list[str]:
    """What a statement of a module defines."""
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [getattr(node, "name", "")]


def _install(folder: Path, name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info = folder / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[sfbench.tasks]\n{line}\n")
    monkeypatch.syspath_prepend(folder)
