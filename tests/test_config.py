"""Presets: typed, closed, and errors that name the nearest key."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from sfbench.reference.catalogue import HEADLINE, presets
from sfbench.reference.config import ConfigError
from sfbench.reference.methods import needs
from sfbench.reference.recipes import from_dict, load_preset, recipe_hash, to_dict

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", sorted(presets()))
def test_presets_load_and_round_trip(name: str) -> None:
    preset = load_preset(name)
    assert from_dict(to_dict(preset)) == preset
    assert {"teacher", "diffusion-forcing", "teacher-forcing"} <= preset.methods.keys()
    assert ("codec" in preset.methods) == (preset.codec.kind == "learned")


def test_an_override_reaches_its_field_and_nothing_else() -> None:
    plain = load_preset("smoke")
    other = load_preset("smoke", ["methods.teacher.lr=1e-4", "seed=3"])
    assert other.methods["teacher"].lr == 1e-4 and other.seed == 3
    assert other.methods["codec"] == plain.methods["codec"] and other.model == plain.model


def test_rows_that_share_an_alias_are_overridden_one_by_one() -> None:
    plain = load_preset("smoke")
    other = load_preset(
        "smoke",
        ["methods.self-forcing-dmd.steps=7", "methods.causal-ode.sampler.shift=2"],
    )
    changed = {row for row in plain.methods if plain.methods[row] != other.methods[row]}
    assert changed == {"self-forcing-dmd", "causal-ode"}


def test_a_preset_file_that_is_no_preset_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for text, words in (("", "None"), ("3", "group of keys"), ("seed: [1", "not YAML")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=words) as error:
            load_preset(str(path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("modell.dim=3", ["modell", "model"]),
        ("model.dimm=3", ["dimm", "dim"]),
        ("methods.teacher.lrr=3", ["lrr", "lr"]),
        ("model.dim", ["key=value"]),
        ("model.dim=wide", ["preset.model.dim", "int", "wide"]),
        ("model.dim=true", ["int"]),
        ("model.dim.x=1", ["'dim' is a value"]),
        ("model.heads=5", ["heads must divide"]),
        ("model.window=5", ["frames_per_chunk must divide model.window"]),
        ("data.size=20", ["multiple of 8"]),
        ("model.prediction=eps", ["x0 or v"]),
        ("model.dim={a: ", ["--set model.dim", "not YAML"]),
        ("model.heads=0", ["model.heads must be at least 1, not 0"]),
        ("seed=-1", ["seed must not be negative"]),
        ("data.size=[16,16,16]", ["data.size", "list of 2"]),
        ("data.fps=.nan", ["data.fps must be over 0"]),
        ("engine.sequence_parallel=0", ["at least 1"]),
        ("methods.teacher.steps=0", ["methods.teacher.steps must be at least 1, not 0"]),
        ("methods.diffusion-forcing.clean_chunks=1", ["clean_chunks must be in 0..1, without 1"]),
        ("methods.teacher.betas=[0.9]", ["betas", "list of 2"]),
        ("methods.teacher.betas=[0.9, 1.5]", ["betas must be in 0..1", "[0.9, 1.5]"]),
        ("methods.teacher.model={window: -2}", ["methods.teacher.model.window", "negative"]),
        ("methods.teacher.model={frames_per_chunk: 0}", ["frames_per_chunk must be at least 1"]),
        ("methods.teacher.patience=2", ["methods.teacher.patience needs evaluate_every"]),
        ("methods.causvid.sampler.few=[]", ["few must be one level or more"]),
        ("methods.causvid.sampler.few=[250, 500]", ["below the one before"]),
        ("methods.causvid.sampler.few=[1000, 0]", ["few must be over 0 and at most 1000"]),
        ("methods.causvid.score_range=[0.9, 0.1]", ["score_range must be a lower level"]),
        ("methods.causvid.teacher=''", ["methods.causvid.teacher must name a row"]),
        ("methods.self-forcing-dmd.sampler.guidance=3", ["guidance must be 1", "real_guidance"]),
        ("methods.self-forcing-dmd.grad_frames=1", ["grad_frames must be a chunk (2)"]),
        ("methods.self-forcing-dmd.lora={rank: 2, targets: []}", ["lora.targets"]),
        ("methods.self-forcing-gan.gan.blocks=[9]", ["gan.blocks", "critic's 2"]),
    ],
)
def test_a_wrong_override_is_one_sentence(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load_preset("smoke", [override])
    text = str(error.value)
    assert all(word in text for word in words) and "\n" not in text


def test_unknown_preset_and_method_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="smoke"):
        load_preset("smok")
    with pytest.raises(ConfigError, match="self-forcing-dmd"):
        load_preset("smoke").method("self-forcing")


def test_a_recipe_is_what_determines_the_weights() -> None:
    base = load_preset("smoke")
    same = load_preset("smoke", ["methods.teacher.lr=1e-9", "methods.codec.expect=better"])
    assert recipe_hash(base, "codec") == recipe_hash(same, "codec")
    assert recipe_hash(base, "teacher") != recipe_hash(same, "teacher")
    wider = load_preset("smoke", ["model.dim=128"])
    assert recipe_hash(base, "codec") == recipe_hash(wider, "codec")  # made of pixels alone
    assert recipe_hash(base, "causvid") != recipe_hash(wider, "causvid")


def test_make_trains_every_row_of_tiny_after_its_ancestors() -> None:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("M")}
    told = subprocess.run(
        ["make", "-n", "reference", "ablation"],
        cwd=ROOT,
        env=outer,  # without what `make test` tells its children
        capture_output=True,
        text=True,
        check=True,
    )
    loops = re.findall(r"for row in ([^;]+);", told.stdout)
    rows = [row for loop in loops for row in loop.split()]
    tiny = load_preset("tiny")
    assert sorted(rows) == sorted(tiny.methods) and rows[: len(HEADLINE)] == [*HEADLINE]
    for place, row in enumerate(rows):
        assert set(needs(tiny, row)) <= set(rows[:place]), row
