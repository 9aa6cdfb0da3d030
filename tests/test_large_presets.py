"""The presets for one GPU and a cluster: the constants of the paper, and what heads promise."""

from __future__ import annotations

import re
from functools import cache

from sfbench.reference import ancestry, methods
from sfbench.reference.config import Preset
from sfbench.reference.estimate import estimate
from sfbench.reference.machines import machine
from sfbench.reference.plan import levels
from sfbench.reference.recipes import PRESETS, load_preset
from sfbench.reference.text import VocabularyEncoder
from sfbench.registry import load
from sfbench.schema import SceneRef


@cache
def wan(*overrides: str) -> Preset:
    return load_preset("wan-1.3b", list(overrides))


def test_every_row_of_the_paper_is_there() -> None:
    rows = wan().methods
    ours = {name for name in methods.METHODS if name.startswith(("self-", "causvid", "tf-"))}
    ours |= {"teacher", "ode", "teacher-forcing", "diffusion-forcing"}
    assert ours <= rows.keys()
    assert {f"{name}-framewise" for name in ours - {"teacher"}} <= rows.keys()
    for name in rows:
        assert wan().of(name).model.frames_per_chunk == (1 if "framewise" in name else 3)


def test_the_recipe_of_the_paper() -> None:
    preset, dmd = wan(), wan().method("self-forcing-dmd")
    assert (preset.data.frames, preset.data.shape) == (21, (480, 832))
    assert (dmd.lr, dmd.critic_lr, dmd.betas, dmd.clip) == (2e-6, 4e-7, (0, 0.999), 10)
    assert (dmd.batch, dmd.steps, dmd.critic_ratio) == (64, 600, 5)
    assert (dmd.ema, dmd.ema_start * dmd.critic_ratio) == (0.99, 200)
    assert (dmd.real_guidance, dmd.score_shift, dmd.score_range) == (4, 5, (0.02, 0.98))
    assert [round(1000 * s, 3) for s in levels(dmd.sampler)] == [1000, 937.5, 833.333, 625]
    sid, gan = preset.method("self-forcing-sid"), preset.method("self-forcing-gan")
    assert (sid.teacher, sid.lr, sid.critic_lr, sid.weight_decay) == ("base", 2e-6, 2e-6, 0)
    assert (gan.batch, gan.gan.blocks, gan.gan.r1, gan.gan.sigma) == (768, (13, 21, 29), 30, 0.05)
    assert preset.of("self-forcing-dmd-rolling").model.window == 18


def test_each_constant_says_where_it_is_from() -> None:
    lines = (PRESETS / "wan-1.3b.yaml").read_text().splitlines()
    keys = "lr|critic_lr|steps|batch|betas|weight_decay|clip|ema|pairs|size|shift|critic_ratio"
    constants = [line for line in lines if re.match(rf" +({keys}): ", line)]
    assert len(constants) > 25
    assert [
        line for line in constants if not re.search(r"\[(paper|code|ours|derived)\]", line)
    ] == []


def test_the_headline_of_base_takes_ten_minutes() -> None:
    preset = load_preset("base")
    rows = ("codec", "diffusion-forcing", "teacher", "self-forcing-dmd")
    assert set(ancestry.lineage(preset, rows)) == set(rows)
    seconds = [estimate(preset, row, machine(preset, "h100")).seconds for row in rows]
    assert 360 < sum(seconds) < 600
    assert {"codec", *methods.METHODS} <= {preset.kind(row) for row in preset.methods}


def test_the_text_of_base_has_a_place_for_every_word() -> None:
    preset = load_preset("base")
    dataset = load("datasets", preset.data.dataset)(preset.data.dataset, preset.data.size, 16.0)
    prompts = {
        dataset.prompt(SceneRef(dataset=preset.data.dataset, split="train", index=index))
        for index in range(300)
    }
    encoded = VocabularyEncoder(preset.text)(sorted(prompts))
    assert encoded.shape[1:] == (preset.text.length, preset.text.dim)
