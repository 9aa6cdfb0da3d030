"""Low-rank adapters (LoRA) by peft: small trained matrices beside frozen ones, merged when shipped.

Every player has them, the critic too, as is usual where a model of billions is distilled: a critic
trained whole would cost the memory that adapters save. What a critic has besides its backbone (a
discriminator's heads) is trained whole.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .config import ConfigError, LoraConfig
from .model import DiT
from .objectives import Objective

_BASE, _DOWN, _UP = ".base_layer.", ".lora_A.default.", ".lora_B.default."


def inject(objective: Objective, lora: LoraConfig) -> None:
    """Put adapters into all networks that are trained, and freeze the rest of these."""
    try:
        import peft
    except ImportError:
        raise ConfigError(
            f"lora.rank is {lora.rank}, and adapters need the package peft, which is not "
            "installed: pip install 'sfbench[lora]'."
        ) from None
    # Its annotation of alpha is int; it is a factor.
    named: Any = {"r": lora.rank, "lora_alpha": _alpha(lora), "target_modules": [*lora.targets]}
    config = peft.LoraConfig(**named)
    for net in objective.players.values():
        for part in [*net.modules()]:
            if not isinstance(part, DiT):
                continue
            known = {name for name, _ in part.named_modules()}
            for target in lora.targets:
                if not any(f".{name}".endswith(f".{target}") for name in known):
                    raise ConfigError(
                        f"lora.targets names '{target}', which the network does not have; its "
                        "matrices are q, k, v, o, ffn.0 and ffn.2."
                    )
            peft.inject_adapter_in_model(config, part)


def merged(tensors: dict[str, Tensor], lora: LoraConfig) -> dict[str, Tensor]:
    """The weights of an ordinary network that computes the same: ``W + alpha / rank  B A``."""
    out = {}
    for name, tensor in tensors.items():
        if _DOWN in name or _UP in name:
            continue
        plain = name.replace(_BASE, ".")
        if _BASE in name and name.endswith(".weight"):
            down, up = (tensors[name.replace(_BASE, part)] for part in (_DOWN, _UP))
            tensor = tensor + _alpha(lora) / lora.rank * up @ down
        out[plain] = tensor
    return out


def _alpha(lora: LoraConfig) -> float:
    return lora.alpha or float(lora.rank)
