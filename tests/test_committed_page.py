"""The committed page is what the tool makes of the committed records, clips and all.

The clips themselves are not committed. A page made again takes them out of the page that is there,
each only if its pixels have the SHA-256 that its record holds (:mod:`sfbench.page_carried`). So the
whole page can be made again and held against the committed one: all its text and drawings byte by
byte; its pictures by their pixels, for another build of OpenCV may write the same pixels otherwise.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfbench import page, report
from sfbench.page_carried import BLOCK
from sfbench.store import read_records

RESULTS = Path(__file__).parents[1] / "results"
PICTURE = re.compile(r"data:image/webp;base64,([A-Za-z0-9+/=]*)")


def decoded(code: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """By another decoder than the one that the page is made with."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))


def by_pixels(text: str) -> list[str]:
    """A page's lines, its pictures replaced by the hash of their pixels."""

    def told(found: re.Match[str]) -> str:
        pixels = decoded(found[1])
        # What is wholly transparent has no colour, whatever the encoder has put there.
        seen = pixels * (pixels[..., 3:] > 0) if pixels.shape[2] == 4 else pixels
        return f"picture {hashlib.sha256(np.ascontiguousarray(seen).data).hexdigest()}"

    return PICTURE.sub(told, text).splitlines()


def difference(committed: list[str], made: list[str]) -> str:
    """The first line that differs, from a little before where it does."""
    for n, (old, new) in enumerate(zip(committed, made, strict=False), 1):
        if old != new:
            at = next((k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
            part = slice(max(0, at - 60), at + 60)
            return f"line {n}: committed {old[part]!r}, made {new[part]!r}"
    if len(committed) != len(made):
        return f"{len(committed)} lines committed, {len(made)} made"
    return ""


@pytest.fixture(scope="module")
def committed() -> str:
    return (RESULTS / page.FILE).read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As `make board` makes it on a clean clone: beside the same files, in a folder so named."""
    out = tmp_path_factory.mktemp("again") / RESULTS.name
    shutil.copytree(RESULTS, out, ignore=shutil.ignore_patterns("runs", "vbench"))
    report.write_report([RESULTS / "runs"], out, ["html"])
    return (out / page.FILE).read_text()


def test_the_committed_page_is_what_the_tool_makes(committed: str, made: str) -> None:
    said = difference(by_pixels(committed), by_pixels(made))
    assert not said, f"run `make board`: leaderboard.html, {said}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r'(<p class="headline">.*?)\d', r"\g<1>#"),  # the verdict
        (r"(<td data-v=\"[^\"]*\">0\.)\d", r"\g<1>#"),  # what a cell says
        (r'(<td data-v=")\d', r"\g<1>-7"),  # what it is sorted by
        (r'(<path d="M[\d.]+),\d', r"\1,7#"),  # a line of a chart
        (r"(download=\"[^\"]+\" href=\"data:[^,]+,)\w", r"\g<1>#"),  # the table to take away
        (r"<tr data-kind=\"cheat\"", r'<tr data-kind="model"'),
    ],
)
def test_an_edit_of_the_page_is_found(committed: str, made: str, old: str, new: str) -> None:
    edited, count = re.subn(old, new, made, count=1, flags=re.DOTALL)
    assert count == 1 and edited != made
    assert difference(by_pixels(edited), by_pixels(made))


def clips(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Each clip of a page with the row that it is shown for."""
    block = BLOCK.search(text)
    assert block is not None
    rows = re.findall(r'<figure class="tile"><canvas role="img" aria-label="([^"]+)"', text)
    scenes = json.loads(block[1])["scenes"]
    rows = [html.unescape(row) for row in rows]
    return [pair for scene in scenes for pair in zip(rows, scene, strict=True) if pair[1]]


def test_each_clip_is_the_one_that_a_committed_record_names(committed: str) -> None:
    """By the pixels: the page holds them without loss, and a record holds their SHA-256."""
    shown = clips(committed)
    assert len({row for row, _ in shown}) > 2
    recorded = {}
    for run in sorted((RESULTS / "runs").glob("*/*/result.json")):
        name = json.loads(run.read_text())["model"]["name"]
        for record in read_records(run.parent):
            if record.clip is not None:
                recorded[name, record.key] = record.clip.sha256
    for row, clip in shown:
        sha256 = recorded[row, clip["record"]]
        assert clip["sha256"] == sha256
        width, height, across = (clip[name] for name in ("width", "height", "across"))
        sheet = decoded(clip["source"].partition("base64,")[2])
        tiles = sheet.reshape(-1, height, across, width, 3).swapaxes(1, 2)
        frames = np.ascontiguousarray(tiles.reshape(-1, height, width, 3)[: clip["frames"]])
        assert hashlib.sha256(frames.data).hexdigest() == sha256, (row, clip["record"])
