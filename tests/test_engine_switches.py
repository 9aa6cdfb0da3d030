"""Each of the engine's switches: what it must not change, and that nothing waits for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sfbench.reference import engine as engines
from sfbench.reference import products
from sfbench.reference.engine import KERNELS, Engine, Switches
from sfbench.reference.model import DiT
from sfbench.reference.recorded import Play
from sfbench.reference.rollout import rollout
from sfbench.reference.schedule import Schedule

from reference_fixtures import inputs, keyed_noise, network

FEW = Schedule((1.0, 0.8, 0.5), renoise=True)
ROLLING = [
    dict(window=6),
    dict(window=4, sink=2),
    dict(window=0),
    dict(window=5, first_alone=True),
    dict(window=6, prediction="v", positions="absolute"),
]
aten = torch.ops.aten


@torch.no_grad()
def roll(model: DiT | Engine, net: DiT, seed: int = 0, **how: Any) -> Tensor:
    """Eighteen frames under a prompt of their own."""
    text = inputs(net)[2] + seed
    how = {"frames": 18 + net.config.first_alone} | how
    return torch.cat([*rollout(model, text, keyed_noise(net, 2), FEW, **how)], 1)


def same(made: Tensor, plain: Tensor, within: float = 1e-9) -> None:
    torch.testing.assert_close(made, plain, rtol=0, atol=within)


# --- recorded calls -------------------------------------------------------------------------------


class Tape(TorchDispatchMode):
    """Records what is computed, and at which addresses, as a CUDA graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, out))
        return out

    def play(self) -> None:
        for func, args, kwargs, out in self.done:
            again = func(*args, **kwargs)
            for there, here in zip(_flat(out), _flat(again), strict=True):
                if there.data_ptr() != here.data_ptr():
                    there.copy_(here)


def _flat(out: Any) -> list[Tensor]:
    items = out if isinstance(out, tuple | list) else [out]
    return [item for item in items if isinstance(item, Tensor)]


class Recorder:
    """In place of CUDA graphs; counts."""

    def __init__(self) -> None:
        self.recorded = self.played = 0

    def __call__(self, run: Play) -> Play:
        self.recorded += 1
        tape = Tape()
        with tape:
            made = run()

        def play() -> Tensor:
            self.played += 1
            tape.play()
            return made

        return play


@pytest.mark.parametrize("policy", ROLLING, ids=str)
def test_a_recorded_stream_is_the_dits(policy: dict[str, Any]) -> None:
    """Of two streams, one after the other, under prompts of their own."""
    net, recorder = network(**policy), Recorder()
    engine = Engine(net, Switches(graphs=True), recorder)
    recorded = []
    for seed in range(2):
        same(roll(engine, net, seed), roll(net, net, seed))
        recorded.append(recorder.recorded)
    assert recorded[0] == recorded[1] < recorder.played / 4


def test_a_recording_is_of_one_batch_and_of_one_stream_at_a_time() -> None:
    net, recorder = network(window=6), Recorder()
    engine = Engine(net, Switches(graphs=True), recorder)
    text, noise = inputs(net)[2], keyed_noise(net, 2)
    with torch.no_grad():
        streams = [rollout(engine, text + n, noise, FEW, frames=12) for n in range(2)]
        parts = [[next(stream) for stream in streams] for _ in range(6)]  # by turns
        for n, made in enumerate(zip(*parts, strict=True)):
            same(torch.cat(made, 1), torch.cat([*rollout(net, text + n, noise, FEW, frames=12)], 1))
        del streams, made
        one = rollout(engine, text[:1], keyed_noise(net, 1), FEW, frames=12)
        plain = rollout(net, text[:1], keyed_noise(net, 1), FEW, frames=12)
        same(torch.cat([*one], 1), torch.cat([*plain], 1))


def test_a_change_of_prompt_reaches_a_recording() -> None:
    net, made = network(window=6), []
    text = inputs(net)[2]
    with torch.no_grad():
        for model in (net, Engine(net, Switches(graphs=True), Recorder())):
            chunks = rollout(model, text, keyed_noise(net, 2), FEW, frames=14)
            made.append(torch.cat([chunks.send(text + 1 if n == 4 else None) for n in range(7)], 1))
    same(made[1], made[0])


def test_a_network_that_is_the_engines_alone_is_held_once() -> None:
    net, twin = network(window=6), network(window=6)
    engine, mine = Engine(net, alone=True), net.blocks[0].self_attn
    (fused,) = engine._layers[0].qkv
    for part in (mine.q, mine.k, mine.v):
        assert part.weight.untyped_storage().data_ptr() == fused.weight.untyped_storage().data_ptr()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
    same(roll(engine, net), roll(twin, twin))
    Engine(twin)
    weight = twin.blocks[0].self_attn.q.weight
    assert weight.untyped_storage().nbytes() == weight.nbytes  # others' networks stay as they are


def test_what_a_gpu_and_its_image_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"triton", "gcc"}
    monkeypatch.setattr(engines, "find_spec", lambda name: name if name in found else None)
    monkeypatch.setattr(engines, "which", lambda name: name if name in found else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    assert Switches.of("cpu") == Switches()
    assert Switches.of("cuda") == Switches(graphs=True, compiled=True, attention="flash")
    for name in ("gcc", "triton"):  # without a compiler of C there is none of kernels either
        found.discard(name)
        assert not Switches.of("cuda").compiled


# --- compiled pieces, attention's kernels, products in 8 bits -------------------------------------


def test_compiled_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a compiler takes them in, whole; its kernels take a minute, and are tested on a GPU."""

    def traced(piece: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(piece, backend="aot_eager", dynamic=False, fullgraph=True)

    monkeypatch.setattr(engines, "_compiled", traced)
    net = network(window=6)
    same(roll(Engine(net, Switches(compiled=True)), net), roll(net, net))
    torch.compiler.reset()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_that_does_not_apply_falls_back(kernel: str) -> None:
    net, seen = network(window=6), Tape()
    engine = Engine(net, Switches(attention=kernel))
    same(roll(engine, net), roll(net, net))
    with seen:
        roll(engine, net)
    flash = [func for func, *_ in seen.done if "flash_attention" in str(func)]
    assert bool(flash) is (kernel in ("cudnn", "flash"))  # a CPU has flash and math alone


def test_a_product_in_8_bits_is_near_and_its_largest_weights_are_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(64, 48)
    x = torch.randn(3, 10, 64, generator=generator)
    x[1] *= 1000  # rows have scales of their own
    exact = products.of(layer)
    rounded = products.eight_bit(exact)
    assert rounded.weight.dtype == torch.float8_e4m3fn and rounded.weight.itemsize == 1
    with torch.no_grad():
        made, plain = products.product(x, rounded).float(), layer(x)
    for row, true in zip(made, plain, strict=True):
        assert 0.005 < float((row - true).norm() / true.norm()) < 0.06
    back = rounded.weight.float() * rounded.scale.t()
    largest = layer.weight.abs().argmax(1, keepdim=True)
    torch.testing.assert_close(back.gather(1, largest), layer.weight.gather(1, largest))


def test_a_stream_in_8_bits_is_near_the_dits() -> None:
    net = network(window=6).float()
    text, noise = inputs(net)[2].float(), keyed_noise(net, 2)
    with torch.no_grad():
        plain, rounded = (
            torch.cat([*rollout(m, text, lambda f, s: noise(f, s).float(), FEW, frames=12)], 1)
            for m in (net, Engine(net, Switches(eight_bit=True)))
        )
    error = float((rounded - plain).norm() / plain.norm())
    assert rounded.dtype == torch.float32 and 0.001 < error < 0.2


def test_an_old_torch_has_no_products_in_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.nn.functional, "scaled_mm")
    with pytest.raises(ValueError, match=r"need torch 2\.10"):
        Engine(network(), Switches(eight_bit=True))


# --- no waiting -----------------------------------------------------------------------------------


class Waits(AssertionError):
    """The host would wait for the GPU."""


class NoWaiting(TorchDispatchMode):
    """Raises at what takes values from the GPU or brings memory to it, the GPU being ``meta``."""

    ASKS = (aten._local_scalar_dense, aten.is_nonzero, aten.nonzero, aten.equal, aten.masked_select)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        nested = [part for item in args if isinstance(item, list) for part in _flat(item)]
        devices = {tensor.device.type for tensor in [*_flat(args), *nested]}
        asks = devices == {"meta"} and func.overloadpacket in self.ASKS
        if (there := (kwargs or {}).get("device")) and devices:
            devices.add(torch.device(there).type)
        if asks or len(devices) > 1:
            raise Waits(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("graphs", [False, True])
@torch.no_grad()
def test_nothing_waits_for_the_gpu_inside_a_chunk(graphs: bool) -> None:
    """On a device that has shapes and no values, so that what asks for one cannot be answered."""
    net = network(window=6, sink=2, prediction="v").to("meta")
    engine = Engine(net, Switches(graphs=graphs), lambda run: run)
    text = torch.randn(1, 5, 8, dtype=torch.float64, device="meta")

    def noise(index: Sequence[int], step: int) -> Tensor:
        return torch.randn(1, len(index), *net.latent_shape, dtype=torch.float64, device="meta")

    chunks = rollout(engine, text, noise, FEW, frames=24)
    next(chunks)  # tables are brought over once
    with NoWaiting():
        made = [*chunks]
    assert len(made) == 11 and all(part.is_meta for part in made)


@torch.no_grad()
def test_what_waits_is_found() -> None:
    x = torch.randn(2, 3, device="meta")
    for wait in (
        lambda: x.cpu(),
        lambda: x[x > 0],
        lambda: x.sum().item(),
        lambda: x.copy_(torch.ones(2, 3)),
        lambda: x[torch.tensor([0])],
    ):
        # Where the result's size depends on values, the device itself has no answer.
        with pytest.raises((Waits, NotImplementedError)), NoWaiting():
            wait()


# --- on a GPU -------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # compilers warn of their own
@pytest.mark.parametrize(
    "switches",
    [
        Switches(graphs=True),
        Switches(compiled=True),
        Switches(graphs=True, compiled=True),
        *(Switches(attention=kernel) for kernel in KERNELS),
        Switches(graphs=True, compiled=True, attention="cudnn"),
    ],
    ids=str,
)
def test_on_a_gpu_a_switch_changes_nothing_and_nothing_waits(switches: Switches) -> None:
    """In half precision, as served; a second stream is played from recordings."""
    net = network(window=6, sink=2, prediction="v", dim=256, heads=2, ffn_dim=512).float().cuda()
    net.halve(torch.bfloat16)
    text, drawn = inputs(net)[2].float().cuda(), keyed_noise(net, 2)
    known = {(f, s): drawn([f], s).float().cuda() for f in range(24) for s in range(3)}

    def noise(index: Sequence[int], step: int) -> Tensor:
        return torch.cat([known[f, step] for f in index], 1)

    def play(model: DiT | Engine) -> Tensor:
        chunks = rollout(model, text, noise, FEW, frames=24)
        made = [next(chunks)]
        torch.cuda.set_sync_debug_mode("error" if warm else "default")
        try:
            made += chunks
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return torch.cat(made, 1)

    engine = Engine(net, switches)
    with torch.inference_mode():
        warm = False
        play(engine)
        plain = play(net)
        warm = True
        served = play(engine)
    error = (served - plain).square().mean().sqrt() / plain.square().mean().sqrt()
    assert float(error) < 3e-2


@pytest.mark.gpu
def test_on_a_gpu_a_product_in_8_bits_is_near() -> None:
    layer = torch.nn.Linear(256, 512).cuda().bfloat16()
    x = torch.randn(2, 40, 256, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad():
        made, plain = products.product(x, products.eight_bit(products.of(layer))), layer(x)
    assert 0.005 < float((made - plain).norm() / plain.norm()) < 0.06
