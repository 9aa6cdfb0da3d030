"""Finished runs for the page: clips, records, waits, a hostile name; and a browser to open it in.

Without a browser its tests are skipped, unless ``SFBENCH_BROWSER_REQUIRED`` is set.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from sfbench import page, stats, video
from sfbench.certification import FILE, Certification, Dose, Quiet, Response
from sfbench.interfaces import Frames
from sfbench.leaderboard import Group, groups, load, sources
from sfbench.page_looks import Sources
from sfbench.schema import (
    ClipRef,
    Curve,
    Estimate,
    Geometry,
    Prompt,
    Record,
    Request,
    Result,
    Timing,
)

from simulators import result, spread

HOSTILE = """<script>alert(1)</script>"'&</td></script><img src=x onerror=alert(2)>"""
FRAMES, NATIVE = 24, 6
NAMES = ("model-a", "model-b", HOSTILE)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
REQUIRED = bool(os.environ.get("SFBENCH_BROWSER_REQUIRED"))


def frames(seed: int, count: int = FRAMES, side: tuple[int, int] = (16, 16)) -> Frames:
    """Noise, so that every frame differs from every other."""
    return np.random.default_rng(seed).integers(0, 256, (count, *side, 3), dtype=np.uint8)


def curve(level: float, count: int = 8, unit: str = "0..1") -> Curve:
    at = tuple(float(3 * n) for n in range(1, count + 1))
    y = tuple(stats.mean(spread(level * (1 + 0.05 * n), n), unit=unit) for n in range(count))
    return Curve(x=at, x_label="frame", y=y)


def finished(name: str, level: float, seed: int, **more: object) -> Result:
    """A row with all the curves that the page draws first, and one that it does not know."""
    row = result(name, spread(level, seed), native_frames=NATIVE, **more)  # type: ignore[arg-type]
    names = ("drift", "alive", "gap", "exposure_true", "exposure_own", "exposure_streamed", "new")
    drift = stats.mean(spread(level / 2, seed), better="lower")
    return row.model_copy(
        update={
            "curves": {name: curve(level) for name in names},
            "estimates": row.estimates | {"drift": drift},
        }
    )


def timed(name: str, level: float, waits: Sequence[float], **more: object) -> Result:
    """A row of the latency board that states quantiles of the waits."""
    row = result(name, {}, task={"name": "latency", "conditions": {"device": "cpu"}}, **more)  # type: ignore[arg-type]
    fps = spread(level, sum(name.encode()))  # machines never differ by the same on all turns
    gaps = {
        key: Estimate(
            value=float(np.quantile(waits, q)), low=None, high=None, n=len(waits), clusters=2,
            method="percentile", unit="ms", better="lower",
        )
        for key, q in (("gap_p50", 0.5), ("gap_p95", 0.95))
    }  # fmt: skip
    return row.model_copy(
        update={
            "estimates": {"fps_full": stats.mean(fps, better="higher"), **gaps},
            "per_prompt": {"fps_full": fps},
            "curves": {"pace": curve(level, unit="frames a second")},
            "model": row.model.model_copy(update={"chunk": 2}),
        }
    )


def judged(name: str, level: float, **more: object) -> Result:
    """A row of the quality board."""
    row = result(name, {}, task={"name": "quality"}, **more)  # type: ignore[arg-type]
    values = spread(level, 5)
    return row.model_copy(
        update={
            "estimates": {"adherence": stats.mean(values, better="higher")},
            "per_prompt": {"adherence": values},
            "curves": {},
        }
    )


def store(root: Path, row: Result, clips: Sequence[tuple[str, Frames]] = ()) -> Path:
    """A run directory; ``clips``: prompts and frames."""
    (root / "clips").mkdir(parents=True)
    (root / "result.json").write_text(row.model_dump_json())
    lines = []
    for n, (text, pixels) in enumerate(clips):
        count, height, width = pixels.shape[:3]
        geometry = Geometry(frames=count, height=height, width=width, fps=8)
        request = Request(prompt=Prompt(id=f"p{n}", text=text), seed=0, geometry=geometry)
        path = f"clips/{request.key}.mp4"
        sha256 = video.write_clip(root / path, pixels, 8)
        clip = ClipRef(path=path, frames=count, height=height, width=width, fps=8, sha256=sha256)
        lines.append(Record(key=request.key, request=request, clip=clip).model_dump_json() + "\n")
    (root / "records.jsonl").write_text("".join(lines))
    return root


def streamed(root: Path, row: Result, waits: Sequence[float]) -> Path:
    """A run directory of timings: two streams that hold the waits (in ms)."""
    store(root, row)
    lines = []
    halves = np.array_split(np.asarray(waits), 2)
    for n, half in enumerate(halves):
        request = Request(
            prompt=Prompt(id=f"test-{n}", text="a stream"),
            seed=0,
            geometry=Geometry(frames=96, height=32, width=32, fps=16),
        )
        chunks = ((2, 0.05), *((2, float(ms) / 1000) for ms in half))
        record = Record(key=request.key, request=request, timing=Timing(chunks=chunks))
        lines.append(record.model_dump_json() + "\n")
    (root / "records.jsonl").write_text("".join(lines))
    return root


def everything(root: Path) -> Path:
    """Three boards: with clips, waits, cheats, a reference, a native row, and a hostile name."""
    texts = ["a disc", HOSTILE]
    levels = {"model-a": 0.1, "model-b": 0.3, HOSTILE: 0.5}
    for n, (name, level) in enumerate(levels.items()):
        clips = [(text, frames(10 * n + k)) for k, text in enumerate(texts)]
        store(root / f"long{n}", finished(name, level, n + 1), clips)
        waits = np.random.default_rng(n).gamma(9, 5 + n, 120)
        streamed(root / f"late{n}", timed(name, 40 - 10 * n, waits.tolist()), waits.tolist())
        store(root / f"good{n}", judged(name, 0.6 + level))
    still = np.repeat(frames(0, 1), FRAMES, 0)
    truth = finished("oracle:truth", 0.001, 7, kind="reference-row")
    store(root / "truth", truth, [(text, still) for text in texts])
    cheat = finished("cheat:loop", 0.2, 8, kind="cheat", flags=("DEGENERATE (no motion)",))
    store(root / "cheat", cheat)
    teacher = result("teacher", {}, causal=False)
    store(root / "teacher", teacher, [("a disc", frames(99, NATIVE))])
    return root


def certified(*, ok: bool = True) -> Certification:
    """Two metrics, two failures, one nuisance."""

    def response(metric: str, failure: str, declared: str, z: float) -> Response:
        doses = tuple(Dose(dose=d, z=z * d, alarms=min(1.0, abs(z) / 5)) for d in (1.0, 2.0))
        sees = declared == "sees"
        return Response(
            metric=metric, version=1, failure=failure, unit="levels", declared=declared,  # type: ignore[arg-type]
            rho=0.9 if sees else None, doses=doses, holds=ok or not sees,
        )  # fmt: skip

    return Certification(
        source="shapes-1",
        clips=8,
        responses=(
            response("luma", "blur", "blind_to", 0.1),
            response("luma", "noise", "sees", 14.0),
            response("flow", "blur", "sees", -4.0),
            response("flow", "noise", "blind_to", 0.2),
        ),
        quiet=(
            Quiet(metric="luma", nuisance="re-encoded", alarms=0.0, holds=True),
            Quiet(metric="flow", nuisance="re-encoded", alarms=0.25, holds=ok),
        ),
        unseen=(),
    )


def read(root: Path) -> tuple[list[Group], Sources]:
    return groups(load([root])), sources([root])


def board(*rows: Result) -> Group:
    (group,) = groups(rows)
    return group


# --- in a browser ---------------------------------------------------------------------------------


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless, for the tests of one module."""
    if CHROMIUM is None:
        message = "no chromium on the PATH; on Debian: apt-get install chromium"
        (pytest.fail if REQUIRED else pytest.skip)(message)
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def written(out: Path, runs: Path) -> Path:
    """The page of :func:`everything`, with all that can lie beside it."""
    (out / FILE).write_text(certified().model_dump_json())
    (out / "published").mkdir()
    (out / "published" / "paper.csv").write_text("system,fps,source\nX,17.0,a paper\n")
    return page.write(*read(everything(runs)), out)


class Opened:
    """The page in a tab, with all that it complained of or asked the network for."""

    def __init__(self, browser: Browser, file: Path | str, **options: Any) -> None:
        """``file``: or the address of a page that is served."""
        settings = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        self.context = browser.new_context(**(settings | options))
        self.tab: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(file if isinstance(file, str) else file.as_uri())

    def __getitem__(self, selector: str) -> Locator:
        return self.tab.locator(selector)
