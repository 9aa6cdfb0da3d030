"""Presets: where YAML becomes configuration and is checked; ``limits.py`` says by which rules.

A preset is a file in ``presets/``; ``--set key.path=value`` overrides a field. An unknown key is an
error that names the nearest one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from .config import ConfigError, ModelConfig, Preset, unknown
from .elsewhere import built_on, takers
from .limits import Rules, numbers, of_network, of_row

PRESETS = Path(__file__).parent / "presets"


def preset_names() -> list[str]:
    """The presets that ship."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(
    name: str, overrides: list[str] | None = None, given: list[str] | None = None
) -> Preset:
    """Read a preset, by name or from ``FILE.yaml``, and apply ``key.path=value`` overrides.

    ``given``: ``NAME=PATH``, where weights lie that were made elsewhere.
    """
    own = Path(name) if name.endswith(".yaml") else None
    if own is None and name not in preset_names():
        raise ConfigError(unknown("preset", name, preset_names()))
    if own is not None and not own.is_file():
        raise ConfigError(f"There is no preset file '{name}'.")
    path = own or PRESETS / f"{name}.yaml"
    tree = _parsed(path.read_text(), f"The preset file '{path}'")
    if not isinstance(tree, dict):
        raise ConfigError(f"The preset file '{path}' must hold a group of keys, not {tree!r}.")
    name = own.stem if own else name
    for text in overrides or []:
        _override(tree, text)
    for text in given or []:
        _give(tree, text)
    return from_dict({"name": name, **tree})


def from_dict(tree: dict[str, Any]) -> Preset:
    """Build a preset from plain data, as a checkpoint's card stores it; also checks it."""
    preset: Preset = _build(Preset, tree, "preset")
    for name, method in preset.methods.items():
        _build(ModelConfig, method.model, f"preset.methods.{name}.model")
    _check(preset)
    return preset


def to_dict(config: Any) -> dict[str, Any]:
    """Plain data that :func:`from_dict` and JSON can carry."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def recipe_hash(preset: Preset, name: str) -> str:
    """Identifies all that determines a row's weights, its ancestors' recipes apart.

    Only what differs from the defaults counts, so that an option that is new here renames nothing.
    """
    tree = _stated(preset.of(name).by_content(built_on(preset, [name])))
    if not tree["contents"]:
        tree.pop("contents")
    tree.pop("given")
    tree["methods"] = {name: _stated(preset.method(name))}
    for key in ("expect", "model"):  # the network is in the tree already
        tree["methods"][name].pop(key, None)
    tree.get("data", {}).pop("workers", None)
    tree.pop("engine", None)
    if preset.kind(name) == "codec":  # made of pixels alone
        tree.pop("model", None)
        tree.pop("text", None)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def _stated(config: Any) -> dict[str, Any]:
    """What a configuration says beyond its class's defaults, as plain data."""
    stated = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            if inner := _stated(value):
                stated[item.name] = inner
        elif value != item.default:
            stated[item.name] = value
    return stated


def _override(tree: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes key=value, for example model.dim=128; got '{text}'.")
    keys = path.split(".")
    node = tree
    for key in keys[:-1]:
        inner = node.get(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {text}: '{key}' is a value, not a group of keys.")
        node[key] = dict(inner)  # YAML's aliases make rows share what only one of them changes
        node = node[key]
    node[keys[-1]] = _parsed(value, f"--set {text}: the value")


def _parsed(text: str, what: str) -> Any:
    """YAML as plain data; ``what``: begins the sentence if it is none."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "a character that it does not allow"
        raise ConfigError(f"{what} is not YAML: {problem}.") from None


def _give(tree: dict[str, Any], text: str) -> None:
    """Not by way of YAML: a path is text, whatever is in it."""
    name, equals, path = text.partition("=")
    if not (equals and name and path):
        raise ConfigError(f"--given takes NAME=PATH, for example base=wan-1.3b; got '{text}'.")
    tree.setdefault("given", {})[name] = path


def _build(kind: Any, value: Any, where: str) -> Any:
    """Construct ``kind`` from YAML data, checking names and types on the way."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a group of keys, not {value!r}.")
        hints = get_type_hints(kind)
        for key in value:
            if key not in hints:
                raise ConfigError(unknown(f"key in {where}", str(key), hints))
        built = {key: _build(hints[key], v, f"{where}.{key}") for key, v in value.items()}
        # mypy does not see that a dataclass type can be called.
        return kind(**built)  # type: ignore[operator]
    origin = get_origin(kind)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a group of keys, not {value!r}.")
        return {k: _build(get_args(kind)[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is tuple:
        item, *more = get_args(kind)
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list, not {value!r}.")
        if more != [...] and len(value) != 1 + len(more):
            raise ConfigError(f"{where} must be a list of {1 + len(more)}, not {value!r}.")
        return tuple(_build(item, v, where) for v in value)
    if origin is types.UnionType:  # a number, or a list of them
        lists = isinstance(value, list | tuple)
        return _build(next(k for k in get_args(kind) if bool(get_origin(k)) == lists), value, where)
    if kind is Any:
        return value
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except ValueError:
            pass
    if isinstance(kind, type) and isinstance(value, kind):
        if kind is int and isinstance(value, bool):
            raise ConfigError(f"{where} must be int, not {value!r}.")
        return value
    raise ConfigError(f"{where} must be {getattr(kind, '__name__', kind)}, not {value!r}.")


CHOICES = {
    "codec.kind": ("learned", "wan"),
    "text.kind": ("vocabulary", "words", "umt5"),
    "model.prediction": ("x0", "v"),
    "model.positions": ("relative", "absolute"),
    "engine.sharding": ("replicate", "shard", "hybrid"),
    "engine.precision": ("fp32", "bf16"),
    "engine.attention": ("auto", "dense", "blocks", "flex"),
    "engine.graded": ("auto", "apart", "together"),
    "engine.device": ("auto", "cpu", "cuda"),
    "exits": ("same", "own", "last"),
    "kv_grad": ("none", "stale", "true"),
    "decay": ("cosine", "constant"),
    "sampler.kind": ("euler", "renoise"),
}
"""Words that a field may hold; without a group: a method's."""


def _check(preset: Preset) -> None:
    """Refuse combinations that cannot work, before anything is built."""
    _ensure(preset, numbers(preset))
    data = preset.data
    rules = [
        (
            all(side % preset.codec.stride == 0 for side in data.shape),
            "data.size must be a multiple of 8 (codec stride)",
        ),
        (data.clip_frames >= data.frames, "data.clip_frames must be at least data.frames"),
        (
            preset.codec.kind != "wan" or data.clip_frames == data.frames,
            "data.clip_frames must be data.frames: of Wan's latents only a video's first is one "
            "frame, so a clip is encoded from its own start",
        ),
        *_words(preset, ("codec", "text", "model", "engine")),
        *of_network(preset),
    ]
    for name in preset.given:
        if name not in (known := takers(preset)):
            raise ConfigError(
                unknown("name of weights that are given", name, known)
                if known
                else f"Preset '{preset.name}' takes no weights made elsewhere, so '{name}' cannot "
                "be given."
            )
    for name, method in preset.methods.items():
        rules += [(ok, f"methods.{name}: {rule}") for ok, rule in _words(method, ("", "sampler"))]
        if method.model:
            own = of_network(preset.of(name))
            rules += [(ok, f"methods.{name}: {rule}") for ok, rule in own]
        rules += of_row(preset, name)
    _ensure(preset, rules)


def _ensure(preset: Preset, rules: Rules) -> None:
    for holds, rule in rules:
        if not holds:
            raise ConfigError(f"Preset '{preset.name}': {rule}.")


def _words(config: Any, groups: tuple[str, ...]) -> Rules:
    """Each field of these groups that holds one of a few words."""
    rules = []
    for path, known in CHOICES.items():
        group, _, key = path.rpartition(".")
        if group in groups:
            value = getattr(getattr(config, group) if group else config, key)
            rules.append((value in known, f"{path} must be {' or '.join(known)}, not '{value}'"))
    return rules
