"""Weights that were made elsewhere: what takes them, where they lie, and what is missing; no torch.

A row that stands for such weights goes by its own name, Wan's VAE by "codec", and its text encoder
by "text". ``given.py`` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .ancestry import DISTILLED, KNOWN, needs, needs_clips
from .config import Preset

PARTS = {"codec": ("vae",), "text": ("text_encoder", "tokenizer")}
"""Folders within a Wan folder of diffusers."""
WORDS = {"codec": "the codec", "text": "the text encoder"}
PROMPTS = "prompts:"
"""How the name of a dataset begins that has no clips."""


def takers(preset: Preset) -> dict[str, str]:
    """All that a preset is to be given, and whose weights these are."""
    found = {row: config.given for row, config in preset.methods.items() if config.given}
    if preset.codec.kind == "wan":
        found["codec"] = "Wan2.1's VAE"
    if preset.text.kind == "umt5":
        found["text"] = "Wan2.1's UMT5"
    return found


def built_on(preset: Preset, rows: Iterable[str]) -> list[str]:
    """What of it these rows take; a method of another package, all networks that its row names."""
    taken: set[str] = set()
    for row in rows:
        if preset.method(row).given:
            continue
        taken.update(needs(preset, row, None if preset.kind(row) in KNOWN else DISTILLED))
        if preset.kind(row) != "codec":
            taken.add("text")
            if needs_clips(preset, row):
                taken.add("codec")
    # A card names what it was built on by contents alone.
    return [name for name in takers(preset) | preset.contents if name in taken]


def described(preset: Preset, name: str) -> str:
    """Which part of a run it is, and whose weights."""
    part = WORDS.get(name) or f"row '{name}'"
    return f"{part} ({takers(preset)[name]})"


def home(preset: Preset, name: str) -> Path | None:
    """Where it lies: as given; else, of a part of Wan, the first folder of a row that has it."""
    folders = _folders(preset, name)
    return next((path for path in folders if not _lacks(path, name)), None)


def fault(preset: Preset, name: str) -> str:
    """One sentence on why it cannot be had; empty if it can, as far as names of files tell."""
    folders = _folders(preset, name)
    if not folders or home(preset, name):
        return ""
    lacks = _lacks(folders[0], name)
    if not folders[0].exists():
        return f"Nothing is at '{folders[0]}', given as {name}."
    return (
        f"'{folders[0]}' has no {lacks}; name a Wan folder in diffusers' format that has one with "
        f"--given {name}=FOLDER (`sfbench convert-wan` makes one of an official folder)."
    )


def _folders(preset: Preset, name: str) -> list[Path]:
    if name in preset.given:
        return [Path(preset.given[name]).expanduser()]
    if name not in PARTS:
        return []
    given = (Path(preset.given[row]).expanduser() for row in preset.methods if row in preset.given)
    return [path for path in given if path.is_dir()]


def _lacks(path: Path, name: str) -> str:
    """What is not there: a part, or the whole."""
    if not path.exists():
        return str(path)
    if name in PARTS:
        return next((part for part in PARTS[name] if not (path / part).is_dir()), "")
    configs = (path / "transformer" / "config.json", path / "config.json")
    return "" if path.is_file() or any(map(Path.is_file, configs)) else "transformer"


# --- what cannot be trained -----------------------------------------------------------------------


def refusal(preset: Preset, method: str) -> str:
    """One sentence where a row cannot be trained as things are given; else nothing."""
    rows = trained(preset) if method == "all" else [method]
    for row in rows:
        if whose := preset.method(row).given:
            return f"Row '{row}' stands for {whose}, which is given: it is not trained."
        if preset.data.dataset.startswith(PROMPTS) and needs_clips(preset, row):
            return (
                f"Row '{row}' learns from true clips, and {preset.data.dataset} has prompts alone; "
                "name videos with --set data.dataset=folder:PATH or shards:PATTERN."
            )
        if preset.method(row).evaluate_every and _unwatched(preset):
            return (
                f"Row '{row}' has evaluate_every, and a run {_unwatched(preset)} is not evaluated "
                f"while it trains; pass --set methods.{row}.evaluate_every=0."
            )
        if sentence := _torn(preset, row):
            return f"{sentence}; pass --set engine.sharding=replicate."
    wanted = built_on(preset, rows)
    faults = [sentence for name in wanted if (sentence := fault(preset, name))]
    absent = [name for name in wanted if not home(preset, name)]
    if faults or not absent:
        return faults[0] if faults else ""
    ask = [name for name in absent if name not in PARTS] or absent
    inside = " (the VAE and the text encoder are looked for in the same folders)"
    return (
        f"Preset '{preset.name}' is built on weights that were made elsewhere: "
        f"{', '.join(described(preset, name) for name in absent)}; say where they lie with "
        f"{' '.join(f'--given {name}=PATH' for name in ask)}{inside if ask != absent else ''}; "
        f"`sfbench train-reference --dry-run --preset {preset.name} --method {method}` says what "
        "else the run takes."
    )


def _torn(preset: Preset, row: str) -> str:
    """Where a backward pass goes back and forth between calls of a sharded block.

    FSDP exchanges a block's gradients when one call is done with; what comes later is lost.
    """
    through = preset.kind(row).startswith("self-forcing") and preset.method(row).kv_grad != "none"
    if not through or preset.engine.sharding == "replicate":
        return ""
    return f"Row '{row}' has kv_grad, and shards lose gradients through a cache"


def _unwatched(preset: Preset) -> str:
    """Why nothing is held out, or nothing decodes it; empty if a run can be watched."""
    if preset.data.dataset.startswith(PROMPTS):
        return "on prompts alone"
    return "on Wan's VAE" if preset.codec.kind == "wan" else ""


def trained(preset: Preset) -> list[str]:
    """The rows that are made here."""
    return [row for row, config in preset.methods.items() if not config.given]


def missing(preset: Preset, rows: Iterable[str]) -> list[str]:
    """For the dry run: what rows lack, a line each."""
    rows = [*rows]
    lines = [sentence for row in rows if (sentence := _torn(preset, row))]
    for name in built_on(preset, rows):
        if sentence := fault(preset, name):
            lines.append(sentence.removesuffix("."))
        elif not home(preset, name):
            part, _, whose = described(preset, name).partition(" (")
            lines.append(
                f"reference weights of {part}: {whose.removesuffix(')')}; --given {name}=PATH"
            )
    return lines


def found(preset: Preset, rows: Iterable[str]) -> list[str]:
    """For the dry run: what rows have, and where."""
    places = {name: home(preset, name) for name in built_on(preset, rows)}
    return [f"{described(preset, name)}: {path}" for name, path in places.items() if path]
