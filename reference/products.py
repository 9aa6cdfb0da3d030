"""Matrix products of a serving network: exact, or of weights and inputs in 8 bits.

K width in, N width out; ``...`` any leading axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

EIGHT = torch.float8_e4m3fn
LARGEST = torch.finfo(EIGHT).max


class Linear(NamedTuple):
    """Parameters of a product; with a scale a row, ``[1, N]``, its weights are in 8 bits."""

    weight: Tensor  # [N, K]
    bias: Tensor  # [N]
    scale: Tensor | None = None


def of(layer: nn.Module) -> Linear:
    """A layer's own parameters."""
    assert isinstance(layer, nn.Linear)
    return Linear(layer.weight, layer.bias)


def joined(layers: Sequence[Linear]) -> Linear:
    """One product in place of several of the same input."""
    weights, biases, _ = zip(*layers, strict=True)
    return Linear(torch.cat(weights), torch.cat(biases))


def cast_layer(layer: Linear, dtype: torch.dtype) -> Linear:
    """With parameters in another precision."""
    return Linear(cast_to(dtype, layer.weight), cast_to(dtype, layer.bias))


def eight_bit(layer: Linear) -> Linear:
    """With weights rounded to 8 bits, a scale a row; raises ``ValueError`` if torch is too old."""
    if not hasattr(nnf, "scaled_mm"):
        raise ValueError(f"products in 8 bits need torch 2.10 or later, not {torch.__version__}")
    rounded, scale = _rounded(layer.weight)
    return Linear(rounded, layer.bias, scale.t())


def product(x: Tensor, layer: Linear) -> Tensor:
    """``[..., K]`` to ``[..., N]``, in the precision of the weights.

    In 8 bits each row of ``x`` has a scale of its own too, and the sums are exact; they come out
    in half, for kernels give no other, and then as the bias is.
    """
    if layer.scale is None:
        return nnf.linear(cast_to(layer.weight.dtype, x), layer.weight, layer.bias)
    rounded, scale = _rounded(x.flatten(0, -2))
    by_row = nnf.ScalingType.RowWise
    bias = layer.bias.bfloat16()
    out = nnf.scaled_mm(rounded, layer.weight.t(), scale, by_row, layer.scale, by_row, bias=bias)
    return out.view(*x.shape[:-1], -1).to(layer.bias.dtype)


def cast_to(dtype: torch.dtype, x: Tensor) -> Tensor:
    """``x`` in a precision; at a few tokens, a conversion to its own costs as much as a sum."""
    return x if x.dtype == dtype else x.to(dtype)


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``[R, K]`` in 8 bits, and their scales ``[R, 1]``: the largest of a row stays exact."""
    scale = rows.abs().amax(1, keepdim=True).float().clamp(min=1e-12) / LARGEST
    return (rows / scale).to(EIGHT), scale
