"""The leaderboard as one HTML file that loads nothing: verdict, clips, tables, charts, provenance.

What it says is collected by the modules ``page_*`` as plain data; ``templates/page.html.j2`` writes
it and escapes all text. The page's policy (CSP) forbids every load and names its own script and
style by their hashes, so that nothing else in it can run. Equal inputs give equal bytes, and a page
made again in its own place is the same page: clips that lie nowhere else are taken over from it, if
they are those of the records (:mod:`.page_carried`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from . import __version__, certification, certify_tables, page_boards, page_evidence, page_verdict
from .leaderboard import Group
from .page_carried import clips_of
from .page_charts import Chart, shown_first, the_rest
from .page_clips import Watch, watch
from .page_looks import Looks, Sources, looks
from .page_media import Shown
from .page_planes import pareto
from .page_svg import Look
from .page_waits import waits
from .store import write_atomic

FILE = "leaderboard.html"
TEMPLATES = Path(__file__).parent / "templates"


class MissingPackage(RuntimeError):
    """A package that the page is made with is not there; the text says what to install."""


class UnusableCertification(ValueError):
    """A ``certification.json`` that cannot be shown; the text is one sentence."""


def write(found: Sequence[Group], sources: Sources, out: Path) -> Path:
    """Write ``leaderboard.html`` into a folder; what lies beside it there is shown too.

    ``found``: the boards; ``sources``: their results with the folders they lie in, where clips and
    records are looked for. Beside the page: ``certification.json``, the folder ``published``, and
    the page itself as it was made before, for clips that lie nowhere else.
    """
    path = out / FILE
    write_atomic(path, render(found, sources, out).encode())
    return path


def render(found: Sequence[Group], sources: Sources, out: Path) -> str:
    """The text of the page."""
    try:
        import jinja2
        import vl_convert  # noqa: F401  (of the charts; better now than half-way)
    except ImportError as error:
        raise MissingPackage(
            f"The page cannot be made without {error.name}; run `pip install jinja2 "
            "vl-convert-python`, or leave html out of --format."
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    return template.render(content(found, sources, out)).strip() + "\n"


def content(found: Sequence[Group], sources: Sources, out: Path) -> dict[str, Any]:
    """All that the page says, by the template's names."""
    main = page_verdict.main_board(found)
    ordered = [g for g in found if g is main] + [g for g in found if g is not main]
    known = looks(ordered)
    boards = [page_boards.board(group) for group in ordered]
    verdicts = page_verdict.verdicts(main, known) if main else []
    watched = watch(ordered, known, sources, clips_of(out / FILE))
    return {
        "version": __version__,
        "main": boards[0] if main else None,
        "headline": page_verdict.headline(verdicts),
        "but": page_verdict.but(verdicts),
        "verdicts": verdicts,
        "asides": page_verdict.asides(ordered, main),
        "caveat": page_verdict.CAVEAT,
        "watch": watched,
        "clips": _played(watched) if watched else None,
        "boards": boards,
        "charts": _charts(ordered, main, known, sources),
        "certified": _certified(out / certification.FILE),
        "published": page_evidence.published_in(out / "published"),
        "folder": out.name or ".",
        "again": _again(boards, out),
        **_own("style", "page.css"),
        **_own("script", "page.js"),
    }


def _charts(
    ordered: Sequence[Group], main: Group | None, known: Looks, sources: Sources
) -> list[dict[str, Any]]:
    """A section a board that has any, and one for what is taken from several."""
    sections = []
    for group in ordered:
        charts = [*shown_first(group, known), *_there(waits(group, known, sources))]
        rest = the_rest(group, known)
        if charts or rest:
            drawn = dict.fromkeys(look for chart in rest for look in chart.legend)
            legend: list[Look] = list(drawn)
            title = f"{group.task.name}, {group.task.tier}"
            sections.append({"title": title, "charts": charts, "rest": rest, "legend": legend})
    if both := _there(pareto(ordered, main, known)):
        sections.append({"title": "Across boards", "charts": both, "rest": [], "legend": []})
    return sections


def _there(chart: Chart | None) -> list[Chart]:
    return [] if chart is None else [chart]


def _played(watched: Watch) -> dict[str, Any]:
    """What the page's script plays."""

    def told(clip: Shown | None) -> dict[str, Any] | None:
        if clip is None:
            return None
        names = ("kind", "source", "frames", "every", "width", "height", "across")
        traced = ("record", "sha256")  # not played: so that a clip can be found, and checked
        return {name: getattr(clip, name) for name in names + traced}

    return {
        "frames": watched.frames,
        "fps": watched.fps,
        "native": watched.native,
        "scenes": [[told(clip) for clip in scene.clips] for scene in watched.scenes],
    }


def _certified(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = certification.read(path)
    except ValidationError as error:
        reason = str(error).splitlines()[0]
        raise UnusableCertification(
            f"{path} is not a certification ({reason}); make it again with `sfbench certify "
            f"--out {path.parent}`."
        ) from None
    failures, matrix = page_evidence.matrix(found)
    nuisances, alarms = page_evidence.alarms(found)
    return {
        "verdict": certify_tables.verdict(found),
        "source": found.source,
        "clips": found.clips,
        "failures": failures,
        "matrix": matrix,
        "nuisances": nuisances,
        "alarms": alarms,
    }


def _again(boards: Sequence[page_boards.BoardPage], out: Path) -> list[str]:
    """Commands that check this page or make it again."""
    commands = [f"sfbench report RUNS --format html --out {out.name or '.'}"]
    pair = next((b.ranked[:2] for b in boards if len(b.ranked) > 1), None)
    if pair:
        commands.append(f"sfbench compare {pair[0]} {pair[1]} --results RUNS")
    return commands


def _own(name: str, file: str) -> dict[str, str]:
    """A text of the page itself, and its hash for the policy."""
    text = "\n" + (TEMPLATES / file).read_text(encoding="utf-8")
    if "</s" in text:
        raise ValueError(f"{file} must not hold an end tag")
    code = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {name: text, f"{name}_hash": f"sha256-{code}"}
