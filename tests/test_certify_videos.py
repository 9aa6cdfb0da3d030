"""Certification on folders of files: no video on both sides, and no verdict from a few."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from sfbench import certification, certify, certify_tables, certify_videos, failures
from sfbench.certify import certify as run
from sfbench.certify_videos import Videos
from sfbench.video import write_clip

import real_videos as real

ROOT = Path(__file__).parents[1]
FRAMES = 20
CROPS = (
    ("bikes", 180, ((0, 0), (80, 150), (80, 320))),
    ("carphone_pristine", 144, ((0, 0), (0, 32))),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of the real clips, as a user's folder; nothing independent, but real film."""
    root = tmp_path_factory.mktemp("true")
    for name, size, corners in CROPS:
        start = 145 if name == "bikes" else 0  # within a shot
        frames, fps = real.excerpt(name, start, 2 * FRAMES)
        for n, (top, left) in enumerate(corners):
            crop = frames[:, top : top + size, left : left + size]
            small = [cv2.resize(f, (96, 96), interpolation=cv2.INTER_AREA) for f in crop]
            write_clip(root / f"{name} {n}-0.mp4", np.stack(small).astype(np.uint8), fps)
    frames, fps = real.excerpt("bigbuckbunny", 0, 2 * FRAMES)
    small = [cv2.resize(f, (96, 54), interpolation=cv2.INTER_AREA) for f in frames]
    write_clip(root / "bigbuckbunny-0.mp4", np.stack(small).astype(np.uint8), fps)
    return root


def test_a_video_calibrates_or_tests(folder: Path) -> None:
    source = Videos(folder, FRAMES)
    assert [film.split for film in source.films] == ["selection", "selection", "test"] * 2
    assert (source.takes("selection"), source.takes("test")) == (4, 2)
    assert len({film.sha256 for film in source.films}) == 6
    take = source.take("test", 0)
    assert len(take.frames) == len(take.other) == FRAMES
    assert not np.array_equal(take.frames, source.take("test", 1).frames)
    swapped = take.damaged("swap", 0.3)
    assert swapped.shape == take.frames.shape and not np.array_equal(swapped, take.frames)


def test_a_few_videos_give_figures_and_no_verdict(folder: Path, tmp_path: Path) -> None:
    found = run(["still_share"], Videos(folder, FRAMES), tests=8, jobs=1)
    assert found.unjudged == "needs 24 videos, here are 6" and (found.clips, found.calibration) == (
        2,
        4,
    )
    assert all(claim.holds is None for claim in (*found.responses, *found.quiet)) and found.ok
    assert certify_tables.verdict(found) == (
        "No declaration is judged on 6 videos of 6 files, clips of 20 frames: "
        "needs 24 videos, here are 6."
    )
    paths = certify_tables.write(found, list(certify.known_metrics().values()), tmp_path)
    assert certification.read(paths[0]) == found
    page = paths[1].read_text()
    assert "| bikes 0-0.mp4 | " in page and "| n/a: needs 24 videos |" in page


def test_on_enough_videos_the_largest_dose_must_be_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certify_videos, "LEAST", 6)
    found = run(["still_share", "exposure_change"], Videos(folder, FRAMES), tests=2, jobs=1)
    held = {(r.metric, r.failure): r.holds for r in found.responses if r.declared == "sees"}
    assert held["still_share", "freeze"] and held["still_share", "frozen"]
    assert held["exposure_change", "exposure"]
    assert all(r.holds is None for r in found.responses if r.declared != "sees")
    assert {q.holds for q in found.quiet} <= {True, False}


def test_pieces_never_span_a_cut(tmp_path: Path) -> None:
    first, fps = real.excerpt("carphone_pristine", 0, 30)
    second, _ = real.excerpt("bikes", 80, 50)
    first, second = (np.stack([cv2.resize(f, (88, 72)) for f in c]) for c in (first, second))
    for n in range(3):
        write_clip(tmp_path / f"cut-{n}.mp4", np.concatenate([first, second]), fps)
    assert [film.frames for film in Videos(tmp_path, 20).films] == [(30, 80)] * 3
    assert [film.frames for film in Videos(tmp_path, 15, shots=True).films] == [
        (0, 30),
        (30, 80),
    ] * 3


def test_the_committed_page_of_real_film_says_which_clips_and_judges_nothing() -> None:
    """Made by ``sfbench certify --videos FOLDER --frames 20 --shots`` on the three films."""
    page = (ROOT / "results" / "CERTIFICATION-real.md").read_text()
    for name in real.CLIPS:
        assert (
            f"| {name}.mp4 | {hashlib.sha256(real.path(name).read_bytes()).hexdigest()} |" in page
        )
    assert "No declaration is judged on 6 shots of 3 files, clips of 20 frames" in page
    assert "| n/a: needs 24 shots |" in page and "| yes |" not in page and "| NO |" not in page
    assert failures.doses_sha256() in page


def test_a_folder_that_is_too_small(tmp_path: Path) -> None:
    write_clip(tmp_path / "one-0.mp4", np.zeros((30, 32, 32, 3), np.uint8), 8)
    with pytest.raises(
        certify.CertifyError, match=r"holds 0 videos with 96 frames .* needs 3, and"
    ):
        Videos(tmp_path)
    with pytest.raises(certify.CertifyError, match="in the embedded world alone"):
        certify.chosen(["v_motion"], "videos")
