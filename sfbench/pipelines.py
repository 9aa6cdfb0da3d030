"""Any diffusers text-to-video pipeline in a local folder: ``diffusers:PATH[?key=value&...]``.

Options: ``steps`` and ``guidance`` (else the pipeline's own), ``dtype`` (float32, float16,
bfloat16), ``vae`` (its dtype, where it should differ), and ``frames``, the clip length that the
weights were trained on, where the pipeline does not know it. Example: ``diffusers:wan?steps=30``.

Such a model is bidirectional: the clip comes at once, from text alone. Nothing is downloaded, and
a folder that brings code of its own is refused. ``T`` frames, ``H W`` pixels.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .interfaces import Frames
from .models import ModelError, options
from .registry import unknown
from .schema import ModelCard, Request

PACKAGES = ("diffusers", "transformers", "accelerate")  # the last: Wan's mix of dtypes needs it
INDEX = "model_index.json"
DTYPES = ("float32", "float16", "bfloat16")
OPTIONS: dict[str, Callable[[str], Any]] = {
    "steps": int,
    "guidance": float,
    "dtype": str,
    "vae": str,
    "frames": int,
}
# Pipelines agree neither on what the number of frames is called nor on where the codec's factors
# are; the first name that a pipeline has counts.
FRAME_ARGUMENTS = ("num_frames", "video_length", "frames")
TEMPORAL = (
    "vae_scale_factor_temporal",
    "vae_temporal_compression_ratio",
    "vae_temporal_scale_factor",
)
SPATIAL = (
    "vae_scale_factor_spatial",
    "vae_spatial_compression_ratio",
    "vae_spatial_scale_factor",
    "vae_scale_factor",
)
DENOISERS = ("transformer", "transformer_2", "unet")


class PipelineError(ModelError):
    """A pipeline that cannot be used as asked; the text is one sentence."""


class PipelineModel:
    """A diffusers pipeline; it yields a whole clip once."""

    def __init__(self, rest: str) -> None:
        """``rest``: the folder, and options after a question mark."""
        for package in PACKAGES:
            if find_spec(package) is None:
                raise PipelineError(
                    f"The model 'diffusers:{rest}' needs the package {package}: "
                    "pip install 'sfbench[diffusers]'."
                )
        path, _, query = rest.partition("?")
        self._folder, self._options = Path(path).expanduser(), _options(query)
        self._arguments = _arguments(self._folder)
        self._frames_argument = _frames_argument(self._arguments)
        if "steps" in self._options and "num_inference_steps" not in self._arguments:
            raise PipelineError("This pipeline has no number of steps; leave out ?steps=.")
        if "guidance" in self._options and "guidance_scale" not in self._arguments:
            raise PipelineError("This pipeline has no guidance scale; leave out ?guidance=.")
        self._pipeline, dtype = _load(self._folder, self._options)
        self._time = int(_first(self._pipeline, TEMPORAL) or 1)
        self._height, self._width = _multiples(self._pipeline)
        self.card = self._card(query, dtype)

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        """Yield the clip ``uint8 [T, H, W, 3]`` in one piece; raises :class:`PipelineError`."""
        import torch

        wanted = request.geometry
        if wanted.height % self._height or wanted.width % self._width:
            raise PipelineError(
                f"'{self.card.name}' makes heights that are multiples of {self._height} and widths "
                f"that are multiples of {self._width}, not {wanted.height}x{wanted.width}."
            )
        given = {
            "prompt": request.prompt.text,
            "height": wanted.height,
            "width": wanted.width,
            self._frames_argument: -(-(wanted.frames - 1) // self._time) * self._time + 1,
            "generator": torch.Generator("cpu").manual_seed(request.seed),
            "output_type": "np",
        }
        if "steps" in self._options:
            given["num_inference_steps"] = self._options["steps"]
        if "guidance" in self._options:
            given["guidance_scale"] = self._options["guidance"]
        try:
            video = np.asarray(self._pipeline(**given).frames[0])
        except ValueError as error:  # of what it was given
            raise PipelineError(f"'{self.card.name}' refuses: {_line(error)}") from error
        yield self._to_frames(video, request)

    def _to_frames(self, video: Any, request: Request) -> Frames:
        """``[T, H, W, 3]`` in 0..1, as long as asked for or longer, to pixels."""
        size = request.geometry
        shape = (size.height, size.width, 3)
        if video.ndim != 4 or video.shape[1:] != shape or len(video) < size.frames:
            raise PipelineError(
                f"'{self.card.name}' made {list(video.shape)} where {[size.frames, *shape]} was "
                "asked for; it may not be able to make this length or size."
            )
        video = video[: size.frames]
        if not np.isfinite(video).all():
            raise PipelineError(
                f"'{self.card.name}' made values that are not finite in {self.card.dtype}; try "
                "?dtype=float32."
            )
        frames: Frames = np.round(np.clip(video, 0.0, 1.0) * 255).astype(np.uint8)
        return frames

    def _card(self, query: str, dtype: str) -> ModelCard:
        sha256, steps = weights_hash(self._folder), self._options.get("steps")
        if steps is None and "num_inference_steps" in self._arguments:
            steps = self._arguments["num_inference_steps"].default
        notes = [type(self._pipeline).__name__]
        if self._time > 1:
            notes.append(f"makes {self._time}k+1 frames; of other lengths the end is cut off")
        return ModelCard(
            name=self._folder.resolve().name + (f"?{query}" if query else ""),
            revision=sha256[:12],
            weights_sha256=sha256,
            causal=False,
            native_frames=self._options.get("frames") or self._native_frames(),
            frames_per_latent=self._time,
            dtype=dtype,
            steps=steps,
            parameters=_parameters(self._pipeline),
            notes="; ".join(notes),
        )

    def _native_frames(self) -> int | None:
        default = self._arguments[self._frames_argument].default
        if default is None:  # as in CogVideoX
            latents = getattr(self._pipeline.transformer.config, "sample_frames", None)
            return int(latents) if latents else None
        return int(default)


def weights_hash(folder: Path) -> str:
    """SHA-256 over names and contents of all safetensors files of a folder, in order of name."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors"), key=lambda p: p.relative_to(folder).parts):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return total.hexdigest()


# --- loading --------------------------------------------------------------------------------------


def _options(query: str) -> dict[str, Any]:
    found = options(query, OPTIONS, "pipeline")
    for key, value in found.items():
        if key in ("dtype", "vae") and value not in DTYPES:
            raise PipelineError(unknown("dtype", value, DTYPES))
        if key in ("steps", "frames") and value < 1:
            raise PipelineError(f"The option {key}={value} must be 1 or more.")
        if key == "guidance" and not math.isfinite(value):
            raise PipelineError(f"The option guidance={value} must be a finite number.")
    return found


def _arguments(folder: Path) -> dict[str, inspect.Parameter]:
    """What the pipeline of a folder is called with; its weights are not read yet."""
    if not folder.is_dir():
        raise PipelineError(f"'{folder}' is not a folder; write diffusers:FOLDER.")
    try:
        name = json.loads((folder / INDEX).read_text())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise PipelineError(
            f"'{folder}' is not a diffusers pipeline: it has no readable {INDEX}."
        ) from None
    if not isinstance(name, str) or any(folder.rglob("*.py")):
        raise PipelineError(
            f"'{folder}' brings Python code of its own, which is not run; make a model of it "
            "with module:attribute instead."
        )
    import diffusers

    if not (name.endswith("Pipeline") and hasattr(diffusers, name)):
        raise PipelineError(f"diffusers {diffusers.__version__} has no pipeline '{name}'.")
    return dict(inspect.signature(getattr(diffusers, name).__call__).parameters)


def _frames_argument(arguments: dict[str, inspect.Parameter]) -> str:
    """What the number of frames is called; refuses what does not make video from text alone."""
    found = next((name for name in FRAME_ARGUMENTS if name in arguments), None)
    missing = {"prompt", "height", "width", "generator", "output_type"} - arguments.keys()
    needed = [
        name
        for name, argument in arguments.items()
        if argument.default is argument.empty
        and argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
    ]
    extra = set(needed) - {"self", "prompt"}
    # An optional image before the prompt is how image-to-video pipelines begin.
    if found is None or missing or extra or "image" in arguments:
        raise PipelineError("This pipeline does not make video from text alone, at a given size.")
    return found


def _load(folder: Path, options: dict[str, Any]) -> tuple[Any, str]:
    """The pipeline on its device, and the name of its dtype."""
    import torch
    from diffusers import DiffusionPipeline

    cuda = torch.cuda.is_available()
    dtype = options.get("dtype", "bfloat16" if cuda else "float32")
    dtypes = {"default": getattr(torch, dtype)}
    if "vae" in options:
        dtypes["vae"] = getattr(torch, options["vae"])
    try:
        with warnings.catch_warnings():
            # `torch_dtype` is `dtype` in newer releases, and still understood.
            warnings.simplefilter("ignore", FutureWarning)
            pipeline = DiffusionPipeline.from_pretrained(  # type: ignore[no-untyped-call]
                folder, torch_dtype=dtypes, local_files_only=True, use_safetensors=True
            )
    except Exception as error:
        raise PipelineError(
            f"The pipeline in '{folder}' cannot be loaded ({type(error).__name__}: {_line(error)})."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if cuda else "cpu"), dtype


def _multiples(pipeline: Any) -> tuple[int, int]:
    """What height and width must be multiples of: pixels of a latent, latents of a patch."""
    pixels = int(_first(pipeline, SPATIAL) or 1)
    config = getattr(getattr(pipeline, "transformer", None), "config", None)
    patch = getattr(config, "patch_size", None) or 1
    _, down, right = (1, patch, patch) if isinstance(patch, int) else (1, *patch)[-3:]
    return pixels * down, pixels * right


def _first(pipeline: Any, names: tuple[str, ...]) -> Any:
    return next((getattr(pipeline, name) for name in names if hasattr(pipeline, name)), None)


def _parameters(pipeline: Any) -> int | None:
    """Of the denoiser, as papers count; without text encoder and codec."""
    parts = [getattr(pipeline, name, None) for name in DENOISERS]
    return sum(p.numel() for part in parts if part is not None for p in part.parameters()) or None


def _line(error: Exception) -> str:
    """An error of a library as one line of bounded length."""
    return " ".join(str(error).split())[:300]
