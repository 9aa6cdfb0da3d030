"""The page's clips: which are shown and how, from run directories and from the page before."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfbench import page, page_clips, page_media, video
from sfbench.page_carried import BLOCK, clips_of
from sfbench.page_looks import looks
from sfbench.store import read_records

from page_fixtures import FRAMES, HOSTILE, NAMES, everything, finished, frames, read, store


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return everything(tmp_path_factory.mktemp("runs"))


# --- how ------------------------------------------------------------------------------------------


def decoded(address: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    content = base64.b64decode(address.partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_small_clip_is_kept_without_loss(tmp_path: Path) -> None:
    pixels = frames(1)
    video.write_clip(tmp_path / "clip.mp4", pixels, 8)
    clip = page_media.load(tmp_path / "clip.mp4", (0, 12, 23), 10**6)
    assert clip is not None and (clip.kind, clip.frames, clip.across) == ("sheet", FRAMES, 5)
    sheet = decoded(clip.source)
    for n in range(FRAMES):
        y, x = 16 * (n // 5), 16 * (n % 5)
        assert np.array_equal(sheet[y : y + 16, x : x + 16], pixels[n])
    strip = decoded(clip.strip)
    assert strip.shape[:2] == (16, 3 * 18 - 2) == clip.strip_size[::-1]
    assert np.array_equal(strip[:, 18:34, :3], pixels[12])


def test_a_large_clip_is_scaled_thinned_and_playable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_media, "LONGEST", 20)
    ramp = np.linspace(0, 255, 50).astype(np.uint8)[:, None, None, None]
    video.write_clip(tmp_path / "clip.mp4", np.broadcast_to(ramp, (50, 90, 480, 3)), 10)
    clip = page_media.load(tmp_path / "clip.mp4", (0, 49), 10**6)
    assert clip is not None and clip.kind == "video"
    assert (clip.frames, clip.every, clip.width, clip.height) == (50, 3, 320, 60)
    (tmp_path / "kept.mp4").write_bytes(base64.b64decode(clip.source.partition("base64,")[2]))
    kept, fps = video.read_clip(tmp_path / "kept.mp4")
    assert len(kept) == 17 and fps == pytest.approx(10 / 3, rel=1e-3)
    assert abs(int(kept[10].mean()) - int(ramp[30, 0, 0, 0])) < 6


def test_truth_comes_first_then_ranks_then_native(runs: Path) -> None:
    found, sources = read(runs)
    watched = page_clips.watch(found, looks(found), sources)
    assert watched is not None
    assert [s.label for s in watched.sides] == ["oracle:truth", *NAMES, "teacher"]
    assert [s.note for s in watched.sides][:2] == ["true video", "rank 1"]
    assert [scene.prompt for scene in watched.scenes] == ["a disc", HOSTILE]
    assert watched.scenes[1].clips[-1] is None  # the teacher kept no second clip
    assert (watched.frames, watched.at[0], watched.at[-1]) == (FRAMES, 0, FRAMES - 1)
    assert "Cheats are not shown: cheat:loop." in watched.left_out


def test_clips_keep_to_their_budget(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, sources = read(runs)
    whole = page_clips.watch(found, looks(found), sources)
    assert whole is not None
    first = sum(clip.size for clip in whole.scenes[0].clips if clip)
    for budget, scenes in ((first + 100, 1), (first - 100, 1)):
        monkeypatch.setattr(page_clips, "BUDGET", budget)
        bounded = page_clips.watch(found, looks(found), sources)
        assert bounded is not None and len(bounded.scenes) == scenes
        assert sum(c.size for s in bounded.scenes for c in s.clips if c) <= budget
        assert any("1 of 2 prompts" in line for line in bounded.left_out)
    assert any(line.startswith("Left out, for clips may take") for line in bounded.left_out)


def test_damaged_and_foreign_clips_are_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    video.write_clip(secret, frames(3), 8)
    for n, name in enumerate(("a", "b", "c")):
        store(tmp_path / "runs" / name, finished(name, 0.1 * (n + 1), n), [("a disc", frames(n))])
    next((tmp_path / "runs" / "b" / "clips").glob("*")).write_bytes(b"broken")
    records = tmp_path / "runs" / "c" / "records.jsonl"
    line = json.loads(records.read_text())
    line["clip"]["path"] = "../../secret.mp4"
    records.write_text(json.dumps(line) + "\n")
    found, sources = read(tmp_path / "runs")
    watched = page_clips.watch(found, looks(found), sources)
    assert watched is not None and [side.label for side in watched.sides] == ["a"]


def test_a_page_of_many_rows_stays_small(tmp_path: Path) -> None:
    for n in range(10):
        row = finished(f"model-{n}", 0.1 + 0.02 * n, n)
        store(tmp_path / str(n), row, [("a disc", frames(n, 64, (32, 32)))])
    text = page.render(*read(tmp_path), tmp_path)
    assert len(text.encode()) < 4_000_000
    assert "Left out, for clips may take" in text


# --- from the page that was made before -----------------------------------------------------------


def told(page_file: Path) -> list[dict[str, Any]]:
    """The clips of a page, as its script is told of them."""
    block = BLOCK.search(page_file.read_text())
    assert block is not None
    return [clip for scene in json.loads(block[1])["scenes"] for clip in scene if clip]


@pytest.fixture
def lonely(tmp_path: Path) -> tuple[Path, Path]:
    """A page, and its runs without their clips: as a repository holds them."""
    runs = everything(tmp_path / "runs")
    out = tmp_path / "out"
    out.mkdir()
    made = page.write(*read(runs), out)
    for clip in runs.glob("*/clips/*"):
        clip.unlink()
    return made, runs


def test_a_page_made_again_without_the_clips_is_the_same_page(lonely: tuple[Path, Path]) -> None:
    made, runs = lonely
    before = made.read_bytes()
    assert page.write(*read(runs), made.parent).read_bytes() == before
    made.unlink()
    assert "No clip was kept" in page.write(*read(runs), made.parent).read_text()


def test_every_clip_says_which_record_it_is_of(lonely: tuple[Path, Path]) -> None:
    made, runs = lonely
    records = [record for root in runs.iterdir() for record in read_records(root)]
    recorded = {(record.key, record.clip.sha256) for record in records if record.clip}
    shown = told(made)
    assert len(shown) == 9
    table = made.read_text().partition("Which records these clips are")[2].partition("</table>")[0]
    for clip in shown:
        assert (clip["record"], clip["sha256"]) in recorded
        assert clip["record"] in table and clip["sha256"] in table  # for a reader too


def test_a_clip_that_was_changed_is_not_taken_over(lonely: tuple[Path, Path]) -> None:
    made, runs = lonely
    still, victim, *others = told(made)
    taken = page_media.unsheet(
        *(victim[name] for name in ("source", "frames", "across", "width", "height"))
    )
    assert taken is not None
    taken[5, 3, 3, 0] ^= 1  # one level of one channel of one pixel of one frame
    forged = page_media.sheet(taken, (0,)).source
    made.write_text(made.read_text().replace(victim["source"], forged))
    found = clips_of(made)
    assert victim["sha256"] not in found
    assert {clip["sha256"] for clip in (still, *others)} <= found.keys()
    again = page.write(*read(runs), made.parent)
    assert forged not in again.read_text() and len(told(again)) == 1 + len(others)


def test_a_film_cannot_be_told_and_is_not_taken_over(tmp_path: Path) -> None:
    root = store(tmp_path / "runs" / "a", finished("a", 0.1, 1), [("x", frames(1, 12, (72, 96)))])
    store(tmp_path / "runs" / "b", finished("b", 0.2, 2))
    made = page.write(*read(tmp_path / "runs"), tmp_path)
    assert [clip["kind"] for clip in told(made)] == ["video"]
    assert clips_of(made) == {}
    next((root / "clips").iterdir()).unlink()
    assert "No clip was kept" in page.write(*read(tmp_path / "runs"), tmp_path).read_text()


def test_what_is_no_page_of_ours_holds_no_clips(tmp_path: Path) -> None:
    assert clips_of(tmp_path / "none.html") == {}
    file = tmp_path / "page.html"
    for text in ("", "<p>", '<script type="application/json" id="clips">{"scenes": 3}</script>'):
        file.write_text(text)
        assert clips_of(file) == {}
    (tmp_path / "link.html").symlink_to(file)
    assert clips_of(tmp_path / "link.html") == {}


def test_a_picture_of_another_size_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file may hold a very large picture, so its size is read first."""
    source = page_media.sheet(frames(1, 9), (0,)).source
    assert np.array_equal(page_media.unsheet(source, 9, 3, 16, 16), frames(1, 9))
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("decoded"))
    for wrong in ((9, 3, 16, 8), (12, 3, 16, 16), (9, 2, 16, 16)):
        assert page_media.unsheet(source, *wrong) is None
    for text in ("", "data:image/webp;base64,!", "data:image/webp;base64,AAAA"):
        assert page_media.unsheet(text, 9, 3, 16, 16) is None
