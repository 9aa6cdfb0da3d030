"""Training from tiny random Wan weights: what is given, the preset, and a run of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from sfbench.reference import given, trainer
from sfbench.reference.config import Preset
from sfbench.reference.data import recognised
from sfbench.reference.recipes import load_preset

from wan_fixtures import CHANNELS, TEXT, text_encoder, tokenizer, transformer, vae

PROMPTS = [
    "a red disc moves slowly on dark",
    "the blue square moves",
    "the red square on light moves slowly on the dark disc on the blue light",  # is cut
    "a blue disc",
]
STUDENT = {
    "batch": 4,
    "warmup": 1,
    "decay": "constant",
    "drop_text": 0.0,
    "sampler": {"kind": "renoise", "few": [1000, 500], "shift": 5},
}
PRESET: dict[str, Any] = {
    "data": {"size": 32, "fps": 16, "frames": 4, "clip_frames": 4, "clips": 6},
    "codec": {"kind": "wan", "channels": CHANNELS},
    "text": {"kind": "umt5", "length": 12, "dim": TEXT},
    "model": {
        **{"dim": 60, "ffn_dim": 44, "layers": 2, "heads": 3, "patch": 2, "freq_dim": 32},
        **{"rope_theta": 10000, "prediction": "v", "positions": "absolute"},
        **{"frames_per_chunk": 2, "window": 0},
    },
    "engine": {"micro_batch": 2},
    "methods": {
        "base": {"method": "teacher", "given": "Tiny"},
        "teacher": {"given": "Larger", "model": {"layers": 3, "ffn_dim": 52}},
        "ode": STUDENT
        | {"init": "base", "teacher": "base", "steps": 2, "pairs": 4, "teacher_steps": 4},
        "teacher-forcing": {"init": "base", "steps": 2, "batch": 4, "warmup": 1},
        "self-forcing-dmd": STUDENT
        | {
            **{"init": "ode", "critic_init": "base", "teacher": "teacher", "steps": 2},
            **{"critic_warmup": 0, "critic_ratio": 1, "real_guidance": 3.0, "lr": 1e-4},
        },
    },
}


def folders(path: Path) -> Path:
    """Two Wan folders, one without the parts; prompts; and a preset."""
    for name, part in {
        "transformer": transformer(),
        "vae": vae(),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
    }.items():
        part.save_pretrained(path / "base" / name)
    # As an official folder: no parts; and in half precision, as large weights are handed around.
    torch.nn.Module.to(larger(), torch.bfloat16).save_pretrained(path / "larger")
    (path / "prompts.txt").write_text("\n".join(["", *PROMPTS, PROMPTS[0]]) + "\n")
    (path / "tiny.yaml").write_text(yaml.safe_dump(PRESET))
    return path


def gave(home: Path, base: str = "base") -> list[str]:
    return [f"base={home / base}", f"teacher={home / 'larger'}"]


def larger() -> Any:
    """What is given as the teacher: weights that bfloat16 holds."""
    made = transformer(num_layers=3, ffn_dim=52)
    for parameter in made.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return made


def prompts(home: Path) -> str:
    return f"data.dataset=prompts:{home / 'prompts.txt'}"


def preset(home: Path, *overrides: str, row: str = "self-forcing-dmd") -> Preset:
    """With its hashes, as it is when networks are built."""
    config = load_preset(str(home / "tiny.yaml"), [prompts(home), *overrides], gave(home))
    config = replace(config, data=recognised(config.data))
    return replace(config, contents=given.contents(config, [row]))


def train(home: Path, out: Path, method: str, *overrides: str, **how: Any) -> Path:
    recipe = str(home / "tiny.yaml")
    how = {"given": gave(home)} | how
    (made,) = trainer.train(recipe, method, [prompts(home), *overrides], out, **how)
    return made
