"""Low-rank adapters: they alone are trained, and what ships is an ordinary network."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch

from sfbench.reference import lora, trainer
from sfbench.reference.checkpoint import load_into
from sfbench.reference.config import ConfigError, LoraConfig
from sfbench.reference.model import DiT

import distributed_program as program

RANK = LoraConfig(rank=2, alpha=4.0)


def trained(method: str, folder: Path, config: LoraConfig = RANK) -> tuple[Any, Any, Any]:
    """An objective, the weights it started from by player, and its run after two steps."""
    pytest.importorskip("peft")
    made, recipe, run = program.begin(method, folder, {"lora": config, "ema": 0.5})
    before = {
        player: {name: p.detach().clone() for name, p in net.named_parameters()}
        for player, net in run.players.items()
    }
    for _ in range(2):
        run.advance(made, recipe)
    return before, recipe, run


@pytest.mark.parametrize("method", ["diffusion-forcing", "self-forcing-dmd", "self-forcing-gan"])
def test_only_adapters_are_trained(method: str, tmp_path: Path) -> None:
    before, _, run = trained(method, tmp_path)
    for player, net in run.players.items():
        moved = {
            name
            for name, parameter in net.named_parameters()
            if not torch.equal(parameter, before[player][name])
        }
        heads = ("looks", "registers", "verdict")  # a discriminator's own, which start from nothing
        assert any("lora_B" in name for name in moved)
        assert all("lora_" in name or name.startswith(heads) for name in moved)
        assert len([name for name in moved if "lora_B" in name]) == 2 * (4 + 4 + 2)


def test_what_ships_is_merged_and_loads_in_the_ordinary_way(tmp_path: Path) -> None:
    before, recipe, run = trained("diffusion-forcing", tmp_path)
    tensors = trainer._shippable(run, recipe)
    plain = DiT(program.preset())
    load_into(plain, tensors, "merged")
    x = torch.randn(1, 4, *plain.latent_shape)
    given = x, torch.full((1, 4), 0.5), torch.randn(1, 3, 8)
    torch.testing.assert_close(plain(*given), run.ema(*given))
    name = "blocks.0.self_attn.q"
    change = tensors[f"{name}.weight"] - before["generator"][f"{name}.base_layer.weight"]
    assert torch.linalg.matrix_rank(change, atol=1e-7) == 2  # type: ignore[arg-type]
    assert torch.equal(tensors["head.head.weight"], before["generator"]["head.head.weight"])


def test_a_run_with_adapters_resumes(tmp_path: Path) -> None:
    _, _, run = trained("diffusion-forcing", tmp_path)
    run.save(tmp_path / "diffusion-forcing")
    _, _, again = program.begin("diffusion-forcing", tmp_path, {"lora": RANK}, resume=True)
    assert again.step == 2
    for (name, a), (_, b) in zip(
        run.players["generator"].named_parameters(),
        again.players["generator"].named_parameters(),
        strict=True,
    ):
        assert torch.equal(a, b), name


def test_a_matrix_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lora\.targets names 'out'"):
        trained("diffusion-forcing", tmp_path, LoraConfig(rank=2, targets=("q", "out")))


def test_without_peft_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name == "peft":
            raise ImportError(name)
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"peft, which is not installed: pip install 'sfbench\[l"):
        lora.inject(program.objective("teacher", Path(), {}), RANK)
