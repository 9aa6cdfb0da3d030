"""The parts of a Wan folder that are not ours: the VAE, the text encoder and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .checkpoint import CheckpointError

CLASSES = {
    "vae": ("diffusers", "AutoencoderKLWan"),
    "text_encoder": ("transformers", "UMT5EncoderModel"),
    "tokenizer": ("transformers", "AutoTokenizer"),
}
"""Folder -> the package and the class that read it."""


def inside(folders: Sequence[Path], name: str) -> Path | None:
    """The first folder's part of this name."""
    return next((folder / name for folder in folders if (folder / name).is_dir()), None)


def part(home: Path) -> Any:
    """What a folder of one of these names holds: in evaluation mode, no weight to be trained.

    Nothing is downloaded, and only safetensors are read. Raises :class:`CheckpointError`.
    """
    package, name = CLASSES[home.name]
    try:
        import transformers

        module: Any = transformers
        if package == "diffusers":
            import diffusers

            module = diffusers
    except ImportError:
        raise CheckpointError(
            f"'{home}' is read by the package {package}, which is not installed: pip install "
            "'sfbench[diffusers]'."
        ) from None
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # not annotated
    kind = getattr(module, name)
    try:
        if home.name == "tokenizer":
            return kind.from_pretrained(home, local_files_only=True)
        found = kind.from_pretrained(home, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        line = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"'{home}' cannot be loaded ({type(error).__name__}: {line})."
        ) from error
    return found.eval().requires_grad_(False)
