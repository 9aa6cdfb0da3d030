"""The command of the example of a model in another process, and what models there are asked."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from sfbench.schema import Geometry, Prompt, Request

import fakes

EXAMPLE = shlex.join([sys.executable, str(Path(__file__).parents[1] / "examples/cmd_model.py")])
REQUEST = Request(
    prompt=Prompt(id="p", text="a réd disc\nand 'quotes'"),
    geometry=Geometry(frames=4, height=8, width=6, fps=8),
    seed=3,
)
TASK = fakes.FakeTask(prompts=2, seeds=(0,), arms=("true", "own", "streamed"))
