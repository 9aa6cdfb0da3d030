"""The page's clips: the same prompts and seeds of several rows side by side, inside the page.

Each is a clip that the row's records name, by its key and the SHA-256 of its pixels. It is
read from the run directory; where that holds none any more (a repository keeps records and not
clips), from the page that was made before, if it is the recorded one (:mod:`.page_carried`). How a
clip goes into the page is :mod:`.page_media`'s. All of it is bounded by :data:`BUDGET`; what does
not fit is left out, whole, and the page says so. Truth comes first, then the ranked rows, then
models of native length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .interfaces import Frames
from .leaderboard import Group, Row
from .page_looks import Looks, Sources, folder_of, key_of, native_frames
from .page_media import LARGEST, Shown, load, sheet
from .schema import ClipRef
from .store import StoreError, inside, read_records

Key = tuple[str, str, int]
"""Prompt id, text and seed."""

BUDGET = 2_800_000  # characters of all clips and strips of the page
PROMPTS = 3
LEAST_SHARE = 8  # into which the budget is divided at least
STRIP_FRAMES = 9


@dataclass(frozen=True)
class Kept:
    """A free clip of a row's records, and where its pixels are."""

    record: str
    """Key of its record."""
    ref: ClipRef
    path: Path | None
    """Of its file; ``None`` where there is none."""
    carried: Frames | None
    """Its pixels from the page that was made before, where that held them."""

    @property
    def here(self) -> bool:
        """Whether there is anything to show."""
        return self.path is not None or self.carried is not None

    def shown(self, at: Sequence[int]) -> Shown | None:
        """As it goes into the page; ``None`` if it cannot be read."""
        found = load(self.path, at, BUDGET // LEAST_SHARE) if self.path else None
        if found is None and self.carried is not None:
            found = sheet(self.carried, at)
        return found and replace(found, record=self.record, sha256=self.ref.sha256)


Folder = Mapping[Key, Kept]
"""The free clips of a row, by prompt and seed, in the order of its records."""


@dataclass(frozen=True)
class Scene:
    """One prompt and seed, as each row shows it (``None``: it kept no such clip)."""

    id: str
    prompt: str
    seed: int
    clips: tuple[Shown | None, ...] = ()


@dataclass(frozen=True)
class Side:
    """One row's place in the display."""

    label: str
    series: str
    note: str


@dataclass(frozen=True)
class Watch:
    """All that is shown, and what is not."""

    group: Group
    sides: tuple[Side, ...]
    scenes: tuple[Scene, ...]
    frames: int
    fps: float
    native: int | None
    at: tuple[int, ...]
    """The frames of a strip."""
    left_out: tuple[str, ...]

    @property
    def large(self) -> bool:
        """Whether any clip has more pixels than a small tile shows."""
        return any(clip.kind == "video" for scene in self.scenes for clip in scene.clips if clip)


def watch(
    groups: Sequence[Group],
    known: Looks,
    sources: Sources,
    before: Mapping[str, Frames] | None = None,
) -> Watch | None:
    """The clips of the first board that has any; ``None`` where none was kept.

    ``before``: clips of the page that was made before, by the SHA-256 of their pixels.
    """
    for group in groups:
        folders = _folders(group, sources, before or {})
        rows = [row for row in _order(group) if row.label in folders]
        if rows:
            return _watch(group, rows, folders, known)
    return None


# --- which ----------------------------------------------------------------------------------------


def truth_row(group: Group) -> Row | None:
    """The reference row that is the true video itself, by name; else the first."""
    named = [row for row in group.reference if "truth" in row.result.model.name.split(":")[-1:]]
    return next(iter(named or group.reference), None)


def _order(group: Group) -> list[Row]:
    first = truth_row(group)
    others = [row for row in group.unranked if row.result.model.kind == "model"]
    return [*([first] if first else []), *group.ranked, *others, *group.native]


def _folders(group: Group, sources: Sources, before: Mapping[str, Frames]) -> dict[str, Folder]:
    """The clips of each row of which any is here."""
    found: dict[str, Folder] = {}
    for row in _order(group):
        root = folder_of(row, sources)
        kept = {} if root is None else _kept(root, before)
        if any(clip.here for clip in kept.values()):
            found[row.label] = kept
    return found


def _kept(root: Path, before: Mapping[str, Frames]) -> dict[Key, Kept]:
    """Of a run directory; a path that leads out of it is not followed."""
    found: dict[Key, Kept] = {}
    try:
        records = read_records(root)
    except StoreError:
        return {}
    for record in records:
        request, clip = record.request, record.clip
        if clip is None or request.arm != "free":
            continue
        try:
            path = inside(root, clip.path)
        except StoreError:
            continue
        key = (request.prompt.id, request.prompt.text, request.seed)
        there = path if path.is_file() else None
        found.setdefault(key, Kept(record.key, clip, there, before.get(clip.sha256)))
    return found


def _watch(
    group: Group,
    rows: Sequence[Row],
    folders: Mapping[str, Folder],
    known: Looks,
) -> Watch | None:
    every = list(dict.fromkeys(key for row in rows for key in folders[row.label]))
    here = {key: [_here(folders[row.label].get(key)) for row in rows] for key in every}
    held = {key: sum(kept is not None for kept in here[key]) for key in every}
    chosen = sorted(every, key=lambda key: -held[key])[:PROMPTS]  # stable: else as recorded
    refs = [kept.ref for key in chosen for kept in here[key] if kept]
    frames, fps = max(ref.frames for ref in refs), refs[0].fps
    at = tuple(round(t) for t in np.linspace(0, frames - 1, min(STRIP_FRAMES, frames)))
    scenes: list[Scene] = []
    room, too_large = BUDGET, []
    for key in chosen:
        shown = [kept.shown(at) if kept else None for kept in here[key]]
        if scenes and sum(clip.size for clip in shown if clip) > room:
            continue  # a further prompt is shown whole or not at all
        for n, clip in enumerate(shown):
            if clip and clip.size > room:
                too_large.append(rows[n].label)
                shown[n] = None
            elif clip:
                room -= clip.size
        if any(shown):
            scenes.append(Scene(*key, clips=tuple(shown)))
    if not scenes:
        return None
    kept = [n for n in range(len(rows)) if any(scene.clips[n] for scene in scenes)]
    return Watch(
        group,
        tuple(_side(rows[n], known) for n in kept),
        tuple(Scene(s.id, s.prompt, s.seed, tuple(s.clips[n] for n in kept)) for s in scenes),
        frames,
        fps,
        native_frames(group),
        at,
        _left_out(group, rows, every, scenes, too_large),
    )


def _here(kept: Kept | None) -> Kept | None:
    """A clip of which more is here than its record."""
    return kept if kept is not None and kept.here else None


def _side(row: Row, known: Looks) -> Side:
    note = f"rank {row.rank}" if row.rank != "-" else row.note
    if row.result.model.kind == "reference-row":
        note = "true video"
    elif not row.result.model.causal:
        note = "native length only"
    return Side(row.label, known[key_of(row)].series, note)


def _left_out(
    group: Group,
    rows: Sequence[Row],
    every: Sequence[Key],
    scenes: Sequence[Scene],
    too_large: Sequence[str],
) -> tuple[str, ...]:
    """What is not shown, a sentence each."""
    told = []
    if len(every) > len(scenes):
        told.append(f"Shown are {len(scenes)} of {len(every)} prompts and seeds that were kept.")
    shown = {row.label for row in rows}
    without = [r.label for r in group.ranked if r.label not in shown]
    if without:
        told.append(f"No clip was kept of {', '.join(without)}.")
    cheats = [r.label for r in group.rows if r.result.model.kind == "cheat" and r.rank == "-"]
    if cheats:
        told.append(f"Cheats are not shown: {', '.join(cheats)}.")
    if too_large:
        bound = f"{BUDGET / 1e6:.1f} MB"
        told.append(f"Left out, for clips may take {bound} of this page: {', '.join(too_large)}.")
    if any(c.kind == "video" for s in scenes for c in s.clips if c):
        told.append(f"Clips are scaled to at most {LARGEST} pixels and compressed with loss.")
    return tuple(told)
