"""The dry run's arithmetic against real networks, published figures and what training took."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sfbench.reference import ancestry, arithmetic, methods
from sfbench.reference.catalogue import SHIPPED, presets
from sfbench.reference.codec import AutoEncoder
from sfbench.reference.config import LoraConfig, Preset
from sfbench.reference.dry_run import document
from sfbench.reference.estimate import Row, estimate
from sfbench.reference.machines import machine
from sfbench.reference.model import DiT
from sfbench.reference.objective_critic import Critic
from sfbench.reference.plan import levels
from sfbench.reference.recipes import load_preset
from sfbench.reference.schedule import Schedule

SMALL = pytest.mark.parametrize("name", ["smoke", "tiny"])
EVERY = pytest.mark.parametrize("name", sorted(presets()))
TERA, PETA = 1e12, 1e15


def size(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@cache
def wan(*overrides: str) -> Preset:
    return load_preset("wan-1.3b", list(overrides))


def work(row: Row) -> dict[str, float]:
    """FLOPs of each player's update."""
    return {update.player: update.work.flops for update in row.updates}


# --- parameters -----------------------------------------------------------------------------------


@SMALL
def test_parameters_are_those_of_the_real_networks(name: str) -> None:
    preset = load_preset(name)
    gan, net = preset.methods["self-forcing-gan"].gan, DiT(preset)
    assert arithmetic.parameters(preset) == size(net)
    assert arithmetic.block_parameters(preset) == size(net.blocks[0])
    assert arithmetic.head_parameters(preset, gan) == size(Critic(net, gan)) - size(net)
    assert arithmetic.codec_parameters(preset.codec) == size(AutoEncoder(preset.codec))


def test_parameters_of_both_models_of_the_paper() -> None:
    assert arithmetic.parameters(wan()) == 1_418_996_800
    assert arithmetic.parameters(wan().of("teacher")) == 14_288_491_584
    with torch.device("meta"):  # the class itself, without its memory
        assert size(DiT(wan())) == 1_418_996_800


def test_lora_trains_what_is_beside_the_matrices() -> None:
    preset = load_preset("tiny")
    d, f, layers = preset.model.dim, preset.model.ffn_dim, preset.model.layers
    both = arithmetic.lora_parameters(preset, LoraConfig(rank=4, targets=("q", "ffn.0")))
    assert both == layers * 4 * (2 * (d + d) + (d + f))
    preset = load_preset("tiny", ["methods.self-forcing-gan.lora.rank=4"])
    generator, critic = estimate(preset, "self-forcing-gan", machine(preset, "cpu")).networks
    heads = arithmetic.head_parameters(preset, preset.method("self-forcing-gan").gan)
    assert critic.trained == generator.trained + heads
    assert generator.parameters == arithmetic.parameters(preset) + generator.trained


# --- FLOPs ----------------------------------------------------------------------------------------


@SMALL
def test_a_forward_pass_is_what_a_counter_counts(name: str) -> None:
    preset = load_preset(name)
    net, frames = DiT(preset), preset.data.frames
    x, sigma = torch.randn(1, frames, *preset.latent_shape), torch.rand(1, frames)
    words = torch.randn(1, preset.text.length, preset.text.dim)
    # The fused kernels of a CPU are not counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(x, sigma, words)
    assert arithmetic.whole(preset, frames).flops == pytest.approx(counter.get_total_flops(), 1e-3)


def test_a_chunk_of_the_paper() -> None:
    """Three frames of 1560 tokens, seeing three to twenty-one."""
    assert arithmetic.tokens_of(wan()) == 1560
    seen = [arithmetic.forward(wan(), 3, frames).flops / TERA for frames in range(3, 22, 3)]
    assert seen[0] == pytest.approx(16.2, rel=0.01)
    assert seen[-1] == pytest.approx(40.4, rel=0.01)
    # Four denoising steps and a pass for the cache, of seven chunks; frame by frame likewise.
    assert 5 * sum(seen) == pytest.approx(990.8, rel=0.01)
    single = sum(arithmetic.forward(wan(), 1, frames).flops / TERA for frames in range(1, 22))
    assert 5 * single == pytest.approx(944.3, rel=0.01)
    assert arithmetic.whole(wan(), 21).flops / TERA == pytest.approx(282.9, rel=0.01)


def test_updates_and_hours_of_the_paper() -> None:
    row = estimate(wan(), "self-forcing-dmd", machine(wan(), gpus=64, tflops=350, share=1))
    assert [(update.player, update.count) for update in row.updates] == [
        ("generator", 120),
        ("critic", 600),
    ]
    # Ours caches nothing after the last chunk: 0.04 PF less each.
    assert work(row)["generator"] / PETA == pytest.approx(4.93, rel=0.02)
    assert work(row)["critic"] / PETA == pytest.approx(1.83, rel=0.03)
    assert row.seconds / 3600 == pytest.approx(1.34, rel=0.05)
    parts = {part.name: part.work.flops / PETA for part in row.updates[0].parts}
    assert parts["real score"] == pytest.approx(3.36, rel=0.01)
    assert parts["fake score"] == pytest.approx(0.28, rel=0.02)
    assert parts["backward"] == pytest.approx(0.59, rel=0.02)
    assert parts["rollout"] + parts["cache"] == pytest.approx(0.69, rel=0.07)
    assert row.bound == "compute"


def test_memory_of_the_host_while_networks_are_loaded() -> None:
    """A student, its average and a critic in each of eight processes; a given teacher in none."""
    here, row = machine(wan(), gpus=64), "self-forcing-dmd"
    assert estimate(wan(), row, here).host == 8 * 4 * 3 * 1_418_996_800
    away = estimate(wan("engine.offload_teacher=true"), row, here).host  # shards of eight
    assert away == 8 * 4 * 3 * 1_418_996_800 + 4 * 14_288_491_584
    own = load_preset("base")
    row = estimate(own, "self-forcing-dmd", machine(own)).host
    assert row == 4 * 4 * arithmetic.parameters(own)


def test_what_is_known_of_one_method_follows_from_its_options() -> None:
    here = machine(wan(), gpus=64)

    def of(row: str, *overrides: str) -> Row:
        return estimate(wan(*(f"methods.{row}.{text}" for text in overrides)), row, here)

    plain = work(of("self-forcing-dmd"))
    last = work(of("self-forcing-dmd", "exits=last"))
    # Four passes a chunk where there were two and a half.
    rolled = of("self-forcing-dmd").updates[1].parts[0].work.flops
    assert last["critic"] - plain["critic"] == pytest.approx(rolled * (4 / 2.5 - 1), rel=0.01)
    assert work(of("self-forcing-dmd", "real_guidance=1"))["generator"] < plain["generator"] - PETA
    assert work(of("self-forcing-dmd-rolling"))["generator"] < plain["generator"]
    assert work(of("self-forcing-dmd", "longest=42"))["critic"] > 1.3 * plain["critic"]
    shared = of("self-forcing-dmd", "share_rollout=true")
    assert work(shared)["critic"] < plain["critic"] - 0.1 * rolled
    gan = of("self-forcing-gan")
    without = of("self-forcing-gan", "gan.r1=0", "gan.r2=0")
    assert work(gan)["critic"] > 1.6 * work(without)["critic"]
    assert {net.name for net in gan.networks} == {"generator", "critic"}


def test_a_graded_pass_after_the_rollout_is_one_more_evaluation() -> None:
    """Of each chunk, and of those alone that carry gradient."""
    of = {
        graded: estimate(p, "self-forcing-dmd", machine(p, "cpu")).updates
        for graded in ("apart", "together", "auto")
        for p in [load_preset("tiny", [f"engine.graded={graded}"])]
    }
    assert of["auto"] == of["together"]  # 48 tokens a chunk
    more = of["together"][0].work.flops - of["apart"][0].work.flops
    rollout = next(part for part in of["apart"][0].parts if part.name == "rollout")
    text = arithmetic.text(load_preset("tiny"))
    assert more == pytest.approx((rollout.work.flops - text.flops) / 2.5)  # of 1 to 4 passes
    # Six chunks, four blocks: backward by chunk, or forward and backward of all at once.
    assert of["apart"][0].work.blocks - of["together"][0].work.blocks == 6 * 4 - 2 * 4
    assert of["together"][1] == of["apart"][1]


def test_what_carries_gradient_is_counted_by_where_chunks_start() -> None:
    """Of 12 frames in chunks of two, the last 5 are graded in two chunks, as in the rollout."""
    p = load_preset("tiny", ["engine.graded=together", "methods.self-forcing-dmd.grad_frames=5"])
    four = replace(p.methods["self-forcing-dmd"], grad_frames=4)
    other = replace(p, methods=p.methods | {"self-forcing-dmd": four})
    one, two = (
        {
            part.name: part.work
            for part in estimate(q, "self-forcing-dmd", machine(q, "cpu")).updates[0].parts
        }
        for q in (p, other)
    )
    assert one["exits once more"] == two["exits once more"]


# --- memory and time ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_block_keeps_is_what_autograd_saves(precision: str) -> None:
    tiny = load_preset("tiny", [f"engine.precision={precision}", "model.patch=1"])
    saved = []
    for layers in (1, 2):
        preset = replace(tiny, model=replace(tiny.model, layers=layers))
        net = DiT(preset)
        own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
        seen: dict[int, tuple[int, Any]] = {}

        def keep(tensor: torch.Tensor, own: Any = own, seen: Any = seen) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                seen[storage.data_ptr()] = storage.nbytes(), tensor  # so that none is used again
            return tensor

        x, sigma = torch.randn(2, 6, *preset.latent_shape), torch.rand(2, 6)
        words = torch.randn(2, preset.text.length, preset.text.dim)
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, precision == "bf16", cache_enabled=False),
        ):
            net(x, sigma, words)
        saved.append(sum(count for count, _ in seen.values()))
    assert 2 * arithmetic.block_kept(tiny, 6) == pytest.approx(saved[1] - saved[0], rel=0.25)


def test_recomputation_keeps_less_and_computes_more() -> None:
    preset = load_preset("base")
    again = load_preset("base", ["engine.checkpoint_blocks=true"])
    plain, less = (estimate(p, "diffusion-forcing", machine(p)) for p in (preset, again))
    assert less.memory["activations"] < 0.4 * plain.memory["activations"]
    assert plain.otherwise == less.memory["activations"]
    assert work(less)["generator"] == pytest.approx(4 / 3 * work(plain)["generator"])


def test_sharding_divides_what_is_held() -> None:
    def held(gpus: int, *overrides: str) -> dict[str, float]:
        preset = wan(*overrides)
        return estimate(preset, "self-forcing-dmd", machine(preset, gpus=gpus)).memory

    params, teacher = arithmetic.parameters(wan()), arithmetic.parameters(wan().of("teacher"))
    alone, eight = held(1), held(8)
    assert alone["optimiser"] == 2 * 2 * 4 * params and alone["teacher"] == 4 * teacher
    assert eight["optimiser"] * 8 == alone["optimiser"] and eight["teacher"] * 8 == 4 * teacher
    assert held(64)["teacher"] == eight["teacher"]  # hybrid: shards in a machine only
    assert held(64, "engine.sharding=shard")["teacher"] * 8 == eight["teacher"]
    assert held(64, "engine.sharding=replicate")["teacher"] == 4 * teacher
    assert "teacher" not in held(8, "engine.offload_teacher=true")
    # The known size of 21 frames' keys and values.
    assert eight["KV cache"] == pytest.approx(6.04e9, rel=0.01)


def test_eight_gpus_accumulate_the_same_batch() -> None:
    few, many = (estimate(wan(), "self-forcing-dmd", machine(wan(), gpus=n)) for n in (8, 64))
    assert few.seconds == pytest.approx(8 * many.seconds, rel=0.01)
    assert few.memory == many.memory  # one sample at once in both
    assert few.gigabytes < 80
    single = estimate(wan(), "self-forcing-dmd", machine(wan()))
    assert single.gigabytes > 80


def test_the_shipped_models_took_about_what_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    preset = load_preset("tiny")
    for card in (json.loads(path.read_text()) for path in SHIPPED.glob("*.json")):
        assert card["threads"] == 1
        row = estimate(preset, card["name"], machine(preset))
        assert 0.5 < row.seconds / card["wall_s"] < 2, (card["name"], row.seconds)


# --- what it knows of the methods -----------------------------------------------------------------


@EVERY
def test_ancestors_and_levels_are_those_of_the_trainer(name: str) -> None:
    preset = load_preset(name)
    for row in preset.methods:
        assert ancestry.needs(preset, row) == methods.needs(preset, row)
        if preset.kind(row) != "codec":
            sampler = preset.method(row).sampler
            assert levels(sampler) == pytest.approx(Schedule.of(sampler).sigmas)
    assert set(ancestry.lineage(preset, preset.methods)) == set(methods.order(preset))


def test_every_method_is_known() -> None:
    assert set(ancestry.KNOWN) == {"codec", *methods.METHODS}


@EVERY
def test_every_row_has_an_estimate(name: str) -> None:
    preset = load_preset(name)
    for row in preset.methods:
        found = estimate(preset, row, machine(preset))
        assert found.given or (found.seconds > 0 and found.gigabytes > 0 and found.updates)


def test_rows_that_start_from_one_another_do_not_hang() -> None:
    preset = load_preset("smoke", ["methods.diffusion-forcing.init=teacher"])
    assert "teacher" in ancestry.lineage(preset, preset.methods)


def test_a_method_of_another_package_is_not_guessed_at() -> None:
    preset = load_preset("smoke", ["methods.teacher.method=theirs"])
    row = estimate(preset, "teacher", machine(preset))
    assert row.updates == () and row.seconds == 0
    assert document(preset, machine(preset), [row], [])["rows"][0]["flops"] == {}
