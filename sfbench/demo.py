"""The live page: what is shown on it, tried once before anyone waits for it, and served.

The server is :mod:`.demo_server`; an open page :mod:`.demo_page`; a stream :mod:`.demo_stream`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from .demo_page import PROMPT_CHARACTERS
from .demo_server import ADDRESS, listening, serve
from .demo_stage import Demo
from .demo_stream import Message, Stream
from .interfaces import VideoModel
from .models import resolve
from .registry import load_dataset
from .schema import Geometry, Prompt, Request, SceneRef

PACKAGES = ("starlette", "uvicorn", "websockets")
WORLD = "shapes-1"
EXAMPLES = 5


class DemoError(Exception):
    """A demo that cannot be given; the text is one sentence."""


def give(
    name: str,
    sides: int | tuple[int, int] | None,
    fps: float | None,
    seconds: float,
    prompts: Sequence[str],
    port: int,
    out: Path | None,
    say: Callable[[str], None],
) -> None:
    """Show a model on a page until Ctrl-C."""
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise DemoError(
            f"sfbench demo needs {', '.join(missing)}; run `pip install 'sfbench[demo]'`."
        )
    with ExitStack() as stack:
        own = stack.enter_context(listening(port))
        if out is None:
            temporary = tempfile.TemporaryDirectory(prefix="sfbench-demo-")
            out = Path(stack.enter_context(temporary))
        out.mkdir(parents=True, exist_ok=True)
        say(f"{name}: making a first chunk ...")
        demo = planned(resolve(name), sides, fps, seconds, prompts, out)
        if hasattr(demo.model, "close"):
            stack.callback(demo.model.close)
        say(warm(demo))
        say(f"Open http://{ADDRESS}:{own.getsockname()[1]} in a browser; Ctrl-C ends the demo.")
        serve(demo, own)


def planned(
    model: VideoModel,
    sides: int | tuple[int, int] | None,
    fps: float | None,
    seconds: float,
    prompts: Sequence[str],
    out: Path,
) -> Demo:
    """What is shown: of what is not said, as the embedded world has it."""
    if not model.card.causal:
        raise DemoError(
            f"'{model.card.name}' is bidirectional: it makes a whole clip at once, so there is no "
            "stream to watch; choose another with --model (`sfbench list models`)."
        )
    world = load_dataset(WORLD)(WORLD)
    height, width = (sides, sides) if isinstance(sides, int) else sides or world.shape
    rate = fps or world.fps
    examples = [" ".join(prompt.split()) for prompt in prompts] or [
        world.prompt(SceneRef(dataset=WORLD, split="test", index=n)) for n in range(EXAMPLES)
    ]
    if bad := [text for text in examples if not 0 < len(text) <= PROMPT_CHARACTERS]:
        raise DemoError(f"--prompt has {len(bad[0])} characters, not 1 to {PROMPT_CHARACTERS}.")
    try:
        geometry = Geometry(
            frames=max(1, round(seconds * rate)), height=height, width=width, fps=rate
        )
    except ValueError:
        raise DemoError(
            f"{width}x{height} pixels at {rate:g} frames a second for {seconds:g} s are beyond "
            "what a stream may be (8192 a side, 1000 a second, 1000000 frames)."
        ) from None
    return Demo(model, geometry, tuple(examples), out)


def warm(demo: Demo) -> str:
    """Make and encode one chunk, so that the first visitor does not wait for what is done once."""
    told: list[Message] = []

    def tell(message: Message) -> None:
        told.append(message)
        if isinstance(message, dict) and message["type"] == "chunk":
            stream.stop()

    prompt = Prompt(id="warm-up", text=demo.examples[0])
    stream = Stream(demo.model, Request(prompt=prompt, geometry=demo.geometry, seed=0), tell)
    stream.play()
    last = told[-1]
    assert isinstance(last, dict)
    if last["why"] == "failed":
        raise DemoError(last["text"])
    seconds = next(m["first_frame_s"] for m in told if isinstance(m, dict) and m["type"] == "chunk")
    geometry, card = demo.geometry, demo.model.card
    return (
        f"{card.name}: {geometry.width}x{geometry.height} pixels at {geometry.fps:g} frames a "
        f"second, first chunk ({stream.made} frames) after {seconds:.2f} s."
    )
