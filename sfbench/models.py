"""The harness's own models: finished videos, cheats, and any Python object.

A model is named ``scheme:rest`` (a scheme of the registry: ``reference``, ``videos``, ``cheat`` and
so on) or ``module:attribute``: anything with ``generate(request, context=None)``.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .interfaces import Frames, VideoModel
from .registry import load, providers, unknown
from .schema import Geometry, ModelCard, Request
from .video import SUFFIXES, VideoError, read_clip

Truth = Callable[..., Frames]


class ModelError(Exception):
    """A model that cannot be had; the text is one sentence fit for a user."""


def resolve(name: str) -> VideoModel:
    """The model behind a name."""
    scheme, colon, rest = name.partition(":")
    known = providers("models")
    if colon and scheme in known:
        try:
            model: VideoModel = load("models", scheme)(rest)
        except (LookupError, ValueError, OSError, ImportError) as error:
            raise ModelError(f"The model '{name}' cannot be loaded: {error}") from error
        return model
    if not colon or not all(part.isidentifier() for part in scheme.split(".")):
        raise ModelError(
            f"{unknown('model scheme', scheme, known)} Write scheme:name, for example "
            "cheat:frozen, or module:attribute for a model of yours."
        )
    return adapt(name, _import(name, scheme, rest, known))


def options(query: str, known: Mapping[str, Callable[[str], Any]], what: str) -> dict[str, Any]:
    """What stands after the question mark of a model's name: ``key=value&...``."""
    found: dict[str, Any] = {}
    for pair in query.split("&") if query else []:
        key, _, text = pair.partition("=")
        if key not in known:
            raise ModelError(unknown(f"{what} option", key, known))
        try:
            found[key] = known[key](text)
        except ValueError:
            raise ModelError(f"The option {key}='{text}' must be a number.") from None
    return found


def bind(model: VideoModel, truth: Truth) -> None:
    """Give the true videos to a model that says ``needs_truth``: only a cheat does."""
    if getattr(model, "needs_truth", False):
        model.bind(truth)  # type: ignore[attr-defined]


# --- Python objects -------------------------------------------------------------------------------


def adapt(name: str, found: Any) -> VideoModel:
    """A model from a class, a factory without arguments, or an object with ``generate``."""
    model = found
    if inspect.isclass(found) or not hasattr(found, "generate"):
        try:
            model = found()
        except Exception as error:
            raise ModelError(
                f"The model '{name}' cannot be made without arguments "
                f"({type(error).__name__}: {error})."
            ) from error
    if not callable(getattr(model, "generate", None)):
        raise ModelError(f"The model '{name}' has no method generate(request, context=None).")
    card = getattr(model, "card", None) or {}
    if isinstance(card, ModelCard):
        return model  # type: ignore[no-any-return]
    try:
        return _PythonModel(model, ModelCard(**{"name": name, **card}))
    except (TypeError, ValueError) as error:
        raise ModelError(f"The card of '{name}' is not a model card: {error}") from error


class _PythonModel:
    """An object with ``generate``, and a card made for it."""

    def __init__(self, model: Any, card: ModelCard) -> None:
        self.card = card
        self._model = model
        if hasattr(model, "generate_batch"):
            self.generate_batch = model.generate_batch

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        """Ask the object."""
        if context is None:
            return iter(self._model.generate(request))
        return iter(self._model.generate(request, context))


def _import(name: str, module: str, attribute: str, known: Any) -> Any:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ModelError(f"The model '{name}' needs a package: {error}.") from error
        raise ModelError(
            f"{unknown('model scheme', module, known)} There is no module '{module}' here either."
        ) from None
    except Exception as error:
        raise ModelError(
            f"The module of '{name}' fails on import ({type(error).__name__}: {error})."
        ) from error
    if not hasattr(found, attribute):
        raise ModelError(unknown(f"attribute of module {module}", attribute, _public(found)))
    return getattr(found, attribute)


def _public(module: Any) -> list[str]:
    return [name for name in vars(module) if not name.startswith("_")]


# --- finished videos ------------------------------------------------------------------------------


class VideosModel:
    """A folder of finished videos, one a request: free generation only.

    Looked for, in this order: ``<prompt id>-<seed>``, ``<prompt id>``, ``<prompt text>-<seed>`` (as
    VBench names them) and ``<prompt text>``, with any of :data:`~sfbench.video.SUFFIXES`.
    """

    def __init__(self, rest: str) -> None:
        """``rest``: the folder."""
        folder = Path(rest).expanduser()
        if not folder.is_dir():
            raise ModelError(f"'{rest}' is not a folder; write videos:FOLDER.")
        files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
        if not files:
            raise ModelError(f"'{rest}' holds no video ({', '.join(SUFFIXES)}).")
        self._files = {path.stem: path for path in reversed(files)}
        self.card = ModelCard(name=folder.resolve().name, notes=f"{len(files)} finished videos")

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        """The video of the request, in one piece."""
        path = self._find(request)
        geometry = request.geometry
        frames, fps = read_clip(path, geometry.frames, geometry.height * geometry.width)
        if abs(fps - geometry.fps) > 0.01 * geometry.fps:
            raise VideoError(f"{path.name} runs at {fps:g} frames a second, not {geometry.fps:g}.")
        yield frames

    def _find(self, request: Request) -> Path:
        prompt, seed = request.prompt, request.seed
        names = (f"{prompt.id}-{seed}", prompt.id, f"{prompt.text}-{seed}", prompt.text)
        for name in names:
            if name in self._files:
                return self._files[name]
        raise VideoError(f"There is no video {names[0]}{SUFFIXES[0]} in {self.card.name}.")


# --- cheats ---------------------------------------------------------------------------------------

LOOP_FRAMES = 12
NOISE_CHUNK = 4  # frames a chunk


class Cheat:
    """A way to look good without generating anything; each should be caught by the board.

    ``frozen`` repeats one frame, ``loop`` plays the same frames forwards and backwards, and
    ``noise`` is noise. The first two continue their context; without one they start from the true
    first frames, where the prompt names a scene, else from a moving colour field.
    """

    NAMES = ("frozen", "loop", "noise")
    needs_truth = True

    def __init__(self, name: str) -> None:
        makers = {"frozen": self._frozen, "loop": self._loop, "noise": self._noise}
        if name not in makers:
            raise ModelError(unknown("cheat", name, makers))
        self._make = makers[name]
        self._truth: Truth | None = None
        self.card = ModelCard(
            name=f"cheat:{name}", kind="cheat", revision="1", accepts_context=True
        )

    def bind(self, truth: Truth) -> None:
        """Where first frames come from."""
        self._truth = truth

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        """Cheat."""
        return self._make(request, context)

    def _frozen(self, request: Request, context: Frames | None) -> Iterator[Frames]:
        frame = self._first_frames(request, 1) if context is None else context[-1:]
        yield np.repeat(frame, request.geometry.frames, axis=0)

    def _loop(self, request: Request, context: Frames | None) -> Iterator[Frames]:
        seen = self._first_frames(request, LOOP_FRAMES) if context is None else context
        loop = seen[-LOOP_FRAMES:]
        start = 0 if context is None else len(loop)
        yield loop[pendulum(len(loop), start, request.geometry.frames)]

    def _noise(self, request: Request, context: Frames | None) -> Iterator[Frames]:
        geometry = request.geometry
        start = 0 if context is None else len(context)
        for done in range(0, geometry.frames, NOISE_CHUNK):
            count = min(NOISE_CHUNK, geometry.frames - done)
            yield np.stack(
                [_static(request.seed, start + done + n, geometry) for n in range(count)]
            )

    def _first_frames(self, request: Request, frames: int) -> Frames:
        if self._truth is not None and request.prompt.scene is not None:
            return self._truth(request.prompt.scene, frames)
        return colour_field(request.seed, frames, request.geometry)


def cheat(rest: str) -> VideoModel:
    """The model behind ``cheat:frozen``, ``cheat:loop`` or ``cheat:noise``."""
    return Cheat(rest)


class Replay:
    """The true continuation itself, whatever the context: the floor where there is no oracle."""

    needs_truth = True
    card = ModelCard(name="replay:truth", kind="reference-row", revision="1", accepts_context=True)

    def bind(self, truth: Truth) -> None:
        """Where the frames come from."""
        self._truth = truth

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        """The true frames after the context."""
        if request.prompt.scene is None:
            raise ModelError(f"The prompt '{request.prompt.id}' has no true video to replay.")
        start = 0 if context is None else len(context)
        yield self._truth(request.prompt.scene, start + request.geometry.frames)[start:]


def replay_row(rest: str) -> VideoModel:
    """``replay:truth``."""
    if rest != "truth":
        raise ModelError(unknown("replay row", rest, ["truth"]))
    return Replay()


def pendulum(length: int, start: int, count: int) -> list[int]:
    """Indices that run ``0 .. length - 1`` and back again for ever; ``start`` steps are over."""
    period = max(2 * (length - 1), 1)
    phases = ((start + n) % period for n in range(count))
    return [min(phase, period - phase) if length > 1 else 0 for phase in phases]


def colour_field(seed: int, frames: int, geometry: Geometry) -> Frames:
    """A smooth picture that glides one pixel a frame: a start for a prompt without a scene."""
    corners = np.random.default_rng(seed).uniform(40, 215, (2, 2, 3))
    down, right = (
        0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n) for n in (geometry.height, geometry.width)
    )
    rows = corners[0] + down[:, None, None] * (corners[1] - corners[0])
    field = rows[:, :1] + right[None, :, None] * (rows[:, 1:] - rows[:, :1])
    return np.stack([np.roll(field, n, axis=1) for n in range(frames)]).astype(np.uint8)


def _static(seed: int, index: int, geometry: Geometry) -> Frames:
    rng = np.random.default_rng([seed, index])
    return rng.integers(0, 256, (geometry.height, geometry.width, 3), dtype=np.uint8)
