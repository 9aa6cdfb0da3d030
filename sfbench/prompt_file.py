"""Prompts without videos, as a dataset to train on: ``prompts:FILE``, one prompt a line.

For methods that take their clips from the generator itself. There is no frame in it, so nothing can
be measured on it, and what asks for a clip is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from .interfaces import Frames
from .schema import SceneRef, digest

SCHEME, TRAINED_ON = "prompts", "train"


class PromptFileError(ValueError):
    """A file that cannot be used as prompts, or a clip that is asked of it; one sentence."""


class PromptFile:
    """Implements :class:`sfbench.interfaces.Dataset` but for clips; scenes are numbered by line."""

    def __init__(
        self, name: str, size: int | tuple[int, int] | None = None, fps: float | None = None
    ) -> None:
        """``name``: ``prompts:FILE``, in UTF-8; ``size``: pixels a side, or height and width."""
        self.path = Path(name.removeprefix(f"{SCHEME}:")).expanduser()
        self.shape = (size, size) if isinstance(size, int) else size or (0, 0)
        self.fps = fps or 0.0
        self.prompts = _lines(self.path)
        self.level = f"{SCHEME}:{digest(self.prompts)}"

    def prompt(self, ref: SceneRef) -> str:
        """Its line; nothing is held out, so there are none but those to train on."""
        if ref.split != TRAINED_ON:
            self._refuse()
        return self.prompts[ref.index]

    def clip(self, ref: SceneRef, frames: int, start: int = 0) -> Frames:
        """There is none."""
        self._refuse()

    def of_split(self, split: str, frames: int = 0) -> list[SceneRef]:
        """There is none that has frames."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise PromptFileError(
            f"'{SCHEME}:{self.path}' holds prompts and no videos; name videos with folder:PATH or "
            "shards:PATTERN."
        )


def _lines(path: Path) -> list[str]:
    """The prompts, in the order of the file; lines of nothing but space are passed over."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PromptFileError(
            f"There is no file '{path}'; prompts are named {SCHEME}:FILE, one a line."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PromptFileError(f"'{path}' cannot be read as text in UTF-8 ({error}).") from None
    found = [" ".join(line.split()) for line in text.split("\n")]
    if not any(found):
        raise PromptFileError(f"'{path}' holds no prompt; one a line is expected.")
    return [line for line in found if line]
