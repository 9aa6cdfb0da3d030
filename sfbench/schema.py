"""Every record that is written, read or hashed.

All types are frozen pydantic models. ``None`` means *not measured*; NaN and infinity are refused.
A record's identity is the hash of its canonical JSON, so equal content has an equal name anywhere.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 2
"""Of the files that are written; older ones are read (:mod:`.migrations`)."""

Scalar = bool | int | float | str
Arm = Literal["free", "true", "own", "streamed", "swapped", "corrupted", "noised", "twin"]
Better = Literal["higher", "lower"]
Division = Literal["closed", "open"]
SCOPES = ("e2e", "dit+decode", "dit")
"""Of a timing: from text to frames; without the text; without the text and without decoding."""


class Base(BaseModel):
    """Frozen, closed (an unknown field is an error) and finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def canonical_json(value: Any) -> str:
    """One text for one content: sorted keys, no spaces, no NaN."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


# --- what is asked of a model ---------------------------------------------------------------------


class Geometry(Base):
    """Shape of a clip in pixels."""

    frames: int = Field(gt=0, le=1_000_000)
    """Frames to generate, context not counted."""
    height: int = Field(gt=0, le=8192)
    width: int = Field(gt=0, le=8192)
    fps: float = Field(gt=0, le=1000)


class SceneRef(Base):
    """Names one true video of a dataset, so that its pixels can be made again from the name."""

    dataset: str
    """Registry name, e.g. ``shapes-1``."""
    split: str
    """``train``, ``selection`` or ``test``."""
    index: int = Field(ge=0)


class Prompt(Base):
    """A text and, where it describes a known scene, that scene."""

    id: str
    text: str
    scene: SceneRef | None = None


class Context(Base):
    """Which past frames the harness hands to the model, and how (DESIGN.md 6, part B)."""

    arm: Arm
    """``true``: true frames before every chunk. ``own``: a true prefix, then the model's own
    decoded frames, supplied again before every chunk. ``streamed``: a true prefix, then one
    uninterrupted call. ``swapped``: the true frames of ``donor`` before every chunk. ``corrupted``:
    ``own``, after a prefix whose last frames were damaged. ``noised``: ``true``, with white noise
    on all frames after the prefix. ``twin``: ``own``, after a prefix changed by next to nothing."""
    prefix: int = Field(ge=0)
    """True frames the continuation starts from; a request without context has none."""
    chunk: int = Field(gt=0)
    """Frames the model is asked for at each context (``streamed``: all of them in one call)."""
    donor: SceneRef | None = None
    """The other scene of the ``swapped`` arm."""


class Switch(Base):
    """Another prompt from a frame on. A model learns of it when that frame's turn has come."""

    frame: int = Field(gt=0)
    prompt: Prompt


class Request(Base):
    """One clip to be generated. Its :attr:`key` names the clip file and makes a run resumable."""

    prompt: Prompt
    geometry: Geometry
    seed: int = Field(ge=0)
    context: Context | None = None
    """``None``: free generation from the prompt alone."""
    switch: Switch | None = None
    """For a model that ``switches_prompt``."""
    options: dict[str, Scalar] = {}
    """For the model: ``scope``, of :data:`SCOPES`. For the harness: ``process: fresh`` plays it in
    a process of its own, ``spans: true`` times the parts that the model names."""

    @property
    def key(self) -> str:
        """Hash of the whole request; of ``switch`` only where there is one."""
        return digest(self.model_dump(mode="json", exclude=None if self.switch else {"switch"}))

    @property
    def fresh(self) -> bool:
        """Whether it is to be played in a process of its own."""
        return self.options.get("process") == "fresh"

    @property
    def split(self) -> bool:
        """Whether the parts of each chunk's time are to be noted."""
        return self.options.get("spans") is True

    @property
    def scope(self) -> str:
        """How much of the work is asked for."""
        return str(self.options.get("scope", "e2e"))

    @property
    def arm(self) -> Arm:
        """``free`` without a context, else the context's arm."""
        return self.context.arm if self.context else "free"


class ModelCard(Base):
    """What a model says about itself; the harness trusts none of it for a measurement."""

    name: str
    kind: Literal["model", "cheat", "reference-row"] = "model"
    revision: str = "unknown"
    weights_sha256: str | None = None
    causal: bool = True
    """False: the whole clip is made at once, so there is no horizon and no exposure gap."""
    chunk: int | None = None
    """Frames per autoregressive step (pixels in time)."""
    native_frames: int | None = None
    """Frames the model was trained to make."""
    accepts_context: bool = False
    """True: ``generate`` can continue given true frames."""
    switches_prompt: bool = False
    """True: ``generate`` is a generator whose ``send(prompt)`` changes the prompt; the chunk that
    ``send`` returns is the first under it."""
    scopes: tuple[str, ...] = ("e2e",)
    """Of :data:`SCOPES`, those the model can be asked for."""
    frames_per_latent: int = 1
    """Pixel frames that a latent frame stands for."""
    dtype: str = "float32"
    """Of the arithmetic."""
    compiled: bool = False
    decoder: str | None = None
    """Where another network than the model's own turns latents into pixels, its kind: ``small``."""
    steps: int | None = None
    """Denoising steps a chunk."""
    parameters: int | None = None
    train_core_hours: float | None = None
    """Compute spent on these weights and on every ancestor, in hours of one core."""
    notes: str = ""


# --- what is recorded of a clip -------------------------------------------------------------------


class ClipRef(Base):
    """A clip on disk: where, what it holds, and the hash of its decoded pixels."""

    path: str
    """Relative to the run directory."""
    frames: int
    height: int
    width: int
    fps: float
    sha256: str


class Timing(Base):
    """Seconds from the call to each chunk's arrival, on the harness's clock."""

    chunks: tuple[tuple[int, float], ...]
    """``(frames in the chunk, seconds since the previous one)``."""
    batch: int = 1
    """Requests generated together; above 1 the times are not latencies."""
    spans: tuple[dict[str, float], ...] = ()
    """Where they were asked for: seconds by the names of the model's parts, for each chunk."""
    machine_s: float | None = None
    """What a fixed piece of arithmetic took just before (:func:`sfbench.clock.machine_seconds`)."""


class Startup(Base):
    """A model in a process of its own: seconds since the process was started, and memory."""

    ready_s: float
    """Until the model was loaded."""
    first_frame_s: float
    peak_bytes: int | None
    """Largest resident set, the interpreter and its libraries included."""
    steady_bytes: int | None
    """Resident set at the end of the stream."""
    cuda_peak_bytes: int | None


class Failure(Base):
    """Why a request has no score."""

    kind: Literal["model", "video", "geometry", "score", "unsupported"]
    reason: str


Series = tuple[float | None, ...]


class Scores(Base):
    """What a task measured on one clip."""

    values: dict[str, float | None] = {}
    series: dict[str, Series] = {}
    """One value a window, in time order."""


class Record(Base):
    """One line of ``records.jsonl``."""

    schema_version: int = SCHEMA_VERSION
    key: str
    request: Request
    clip: ClipRef | None = None
    timing: Timing | None = None
    startup: Startup | None = None
    scores: Scores | None = None
    failure: Failure | None = None


# --- what is concluded of a run -------------------------------------------------------------------


class Estimate(Base):
    """A number that may be published: value, interval, sample, method."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Observations behind it."""
    clusters: int
    """Independent groups (prompts; of a timing, turns) among them; the interval is over these."""
    method: str
    confidence: float = 0.95
    unit: str = ""
    better: Better | None = None
    """``None``: neither direction is better."""


class Curve(Base):
    """Estimates along an axis."""

    x: tuple[float, ...]
    x_label: str
    y: tuple[Estimate, ...]


class TaskCard(Base):
    """Identity of a task as it was run."""

    name: str
    version: int
    tier: str
    dataset: str
    prompts_sha256: str
    geometry: Geometry
    seeds: tuple[int, ...]
    metrics: dict[str, int]
    """Metric name to metric version."""
    conditions: dict[str, str] = {}
    """What else its numbers depend on: of timings the device, threads, scope and so on."""

    @property
    def timed(self) -> bool:
        """Whether time is what is measured."""
        return "device" in self.conditions

    @property
    def comparison(self) -> dict[str, str]:
        """The fields that must agree before two rows are ranked together."""
        fields = self.model_dump(mode="json")
        fields |= fields.pop("conditions")
        fields["geometry"] = "{frames}x{height}x{width}@{fps:g}".format(**fields["geometry"])
        return {
            name: value if isinstance(value, str) else canonical_json(value)
            for name, value in fields.items()
        }


class Provenance(Base):
    """What code, on what machine, when."""

    sfbench: str
    commit: str | None
    dirty: bool | None
    python: str
    packages: dict[str, str]
    machine: str
    device: str
    command: str
    started: str
    wall_s: float | None = None


class Validity(Base):
    """Whether a row may be ranked, and if not, why."""

    ok: bool
    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """Words shown in the table, e.g. ``IGNORES CONTEXT``; a flagged row is not ranked."""


class Result(Base):
    """One model on one task: one file, one table row."""

    schema_version: int = SCHEMA_VERSION
    model: ModelCard
    task: TaskCard
    provenance: Provenance
    validity: Validity
    division: Division
    """``closed``: the task exactly as it ships, in one of its tiers; ``open``: with anything else,
    other seeds, size or scenes, or a part of the requests."""
    estimates: dict[str, Estimate]
    curves: dict[str, Curve]
    per_prompt: dict[str, dict[str, float]]
    """Estimate name -> cluster -> mean over its seeds: what paired comparisons are made of. The
    cluster is the prompt's id or, of a timing, the turn (``turn-1``) in which it was taken."""
    failures: dict[str, int] = {}
    """Failure kind to count."""
    records_sha256: str
    sha256: str = ""
    """Of all else in this result, so that a change of any byte shows; empty in version 1."""

    def sealed(self) -> Result:
        """With its hash."""
        rest = self.model_dump(mode="json", exclude={"sha256"})
        return self.model_copy(update={"sha256": digest(rest)})

    @property
    def comparison(self) -> dict[str, str]:
        """The fields that must agree before two rows are ranked together.

        Where time is what is measured, the model's arithmetic is one of them; everywhere, a decoder
        that is not the model's own.
        """
        fields = self.task.comparison
        if self.task.timed:
            compiled = "yes" if self.model.compiled else "no"
            fields |= {"dtype": self.model.dtype, "compiled": compiled}
        if self.model.decoder:
            fields["decoder"] = self.model.decoder
        return fields

    @property
    def comparison_key(self) -> str:
        """Equal keys may be ranked together."""
        return digest(self.comparison)
