"""Names -> ``module:attribute`` strings, imported on use, so that listing costs no import.

Built-ins stand in a table (a contributor adds a line and need not re-install); third parties use
the entry-point groups ``sfbench.models``, ``sfbench.tasks``, ``sfbench.datasets``.
"""

from __future__ import annotations

import difflib
import sys
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from typing import Any

BUILTINS: dict[str, dict[str, str]] = {
    "tasks": {
        "long-horizon": "sfbench.tasks.long_horizon:LongHorizon",
        "latency": "sfbench.tasks.latency:Latency",
        "quality": "sfbench.tasks.quality:Quality",
        "video-exposure": "sfbench.tasks.video_exposure:VideoExposure",
    },
    # Tasks on finished videos, by the name of the task that they stand in for.
    "footage": {
        "quality": "sfbench.tasks.footage:VideoQuality",
        "long-horizon": "sfbench.tasks.footage_drift:VideoDrift",
    },
    # Measures of any video: of ours, the tuple that holds it; of others, a `VideoMeasure` each.
    "metrics": dict.fromkeys(
        (
            "temporal_flickering",
            "motion_magnitude",
            "motion_smoothness_flow",
            "warping_error",
            "repeated_frames",
            "sharpness",
            "exposure",
            "clipped",
            "saturation",
            "blockiness",
        ),
        "sfbench.metrics_video:MEASURES",
    ),
    # Where `sfbench certify` takes true clips from, and the metrics that know their world.
    "sources": {
        "world": "sfbench.tasks.certified:World",
        "videos": "sfbench.certify_videos:Videos",
    },
    "oracles": {
        "world": "sfbench.tasks.certified:WORLD_METRICS",
    },
    # oracle(text, height, width).add(frames): violations of a stream while it is made.
    "live": {
        "world": "sfbench.tasks.live:LiveViolation",
    },
    # How a task's results are shown; without importing the task.
    "boards": {
        "long-horizon": "sfbench.tasks.board_long_horizon:BOARD",
        "latency": "sfbench.tasks.board_latency:BOARD",
        "quality": "sfbench.tasks.board_quality:BOARD",
        "video-exposure": "sfbench.tasks.board_video_exposure:BOARD",
        "video-quality": "sfbench.tasks.board_footage:QUALITY",
        "video-drift": "sfbench.tasks.board_footage:DRIFT",
    },
    # When a free clip of a task failed, from its scores; `None`: it did not.
    "failures": {
        "long-horizon": "sfbench.tasks.drift:failure_time",
    },
    # Of estimates without values by prompt: how two runs are paired in them (sfbench.paired).
    "statistics": {
        "latency": "sfbench.tasks.latency:STATISTICS",
        "long-horizon": "sfbench.tasks.exposure_pairs:STATISTICS",
        "quality": "sfbench.tasks.quality:STATISTICS",
        "video-exposure": "sfbench.tasks.video_pairs:STATISTICS",
    },
    "datasets": {
        "shapes-1": "sfbench.tasks.shapes:Shapes",
        "shapes-2": "sfbench.tasks.shapes:Shapes",
        "folder": "sfbench.video_folder:VideoFolder",  # named folder:PATH
        "shards": "sfbench.video_shards:VideoShards",  # named shards:PATTERN
        "prompts": "sfbench.prompt_file:PromptFile",  # named prompts:FILE; to train on
    },
    # Image features: `uint8 [N, H, W, 3] -> [N, D]`.
    "features": {
        "effnet-lite0": "sfbench.features:embed",
        "thumbs": "sfbench.departure:thumbs",
    },
    # A model is named `scheme:rest`; the factory is called with `rest`.
    "models": {
        "reference": "sfbench.reference.adapters:load",
        "videos": "sfbench.models:VideosModel",
        "cmd": "sfbench.programs:ProgramModel",
        "diffusers": "sfbench.pipelines:PipelineModel",
        "wan": "sfbench.reference.wan:load",
        "cheat": "sfbench.models:cheat",
        "oracle": "sfbench.tasks.rows:oracle_row",
        "truth": "sfbench.reference.adapters:truth_row",
        "replay": "sfbench.models:replay_row",
    },
    # Called as train(preset, method, overrides, out, resume, evaluator=evaluator, given=given).
    "trainers": {
        "reference": "sfbench.reference.trainer:train",
    },
    # show(preset, method, overrides, out, ...): what a training run takes, without torch.
    "planners": {
        "reference": "sfbench.reference.dry_run:show",
    },
    # convert(source, out, network): weights made elsewhere, written as `--model` takes them.
    "converters": {
        "wan": "sfbench.reference.wan_convert:convert",
    },
    # checks(rest): what `sfbench doctor --model SCHEME:rest` looks at, by row.
    "doctors": {
        "wan": "sfbench.reference.wan_doctor:checks",
    },
    # evaluator(data, causal)(model): what a run in training is watched and chosen by.
    "evaluators": {
        "reference": "sfbench.tasks.telemetry:Selection",
    },
    # What ships, without importing what is slow to import.
    "listings": {
        "models": "sfbench.reference.catalogue:shipped",
        "presets": "sfbench.reference.catalogue:presets",
        "weights": "sfbench.reference.catalogue:weights",
    },
}


class UnknownName(LookupError):
    """A name that nothing provides; its text is one sentence fit for a user."""


def providers(kind: str) -> dict[str, str]:
    """All names of a kind and their targets; two providers of one name are an error."""
    found = dict(BUILTINS[kind])
    for point in _entry_points(f"sfbench.{kind}", tuple(sys.path)):
        if found.get(point.name, point.value) != point.value:
            raise UnknownName(
                f"Two packages provide {kind[:-1]} '{point.name}': {found[point.name]} and "
                f"{point.value}; uninstall one."
            )
        found[point.name] = point.value
    return found


@lru_cache(maxsize=64)
def _entry_points(group: str, path: tuple[str, ...]) -> EntryPoints:
    """Of the packages on a path; reading what each of them says takes 40 ms."""
    return entry_points(group=group)


def load(kind: str, name: str) -> Any:
    """Import and return the object behind a name."""
    known = providers(kind)
    if name not in known:
        raise UnknownName(unknown(kind[:-1], name, known))
    module, _, attribute = known[name].partition(":")
    return getattr(import_module(module), attribute)


def load_dataset(name: str) -> Any:
    """The class behind a dataset's name, which may go on after a colon: ``folder:PATH``."""
    return load("datasets", name.partition(":")[0])


def load_features(name: str) -> Any:
    """Image features by name, or of one's own as ``module:attribute``."""
    module, colon, attribute = name.partition(":")
    if not colon:
        return load("features", name)
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownName(f"The features '{name}' cannot be had: {error}.") from None


def unknown(what: str, name: str, known: Any) -> str:
    """One sentence for a name nobody has: the nearest ones first."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:8]
    return f"Unknown {what} '{name}'; did you mean {', '.join(near)}?"
