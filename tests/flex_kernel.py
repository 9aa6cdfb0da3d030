"""The kernels that flex attention becomes on a GPU, run without one; on the simulated one:
``python simulated_gpu.py LIBRARY flex_kernel.py TRITON``.

torch compiles :class:`Seen`'s calls, forward and backward, for tensors of an H100 that have no
values. What it wrote are Triton kernels. Triton's interpreter then runs these on numbers, and
values and gradients are compared with those under the dense mask: one line of JSON a mask. Numbers
are a GPU's but for rounding; nothing is learned of time. ``TRITON``: a folder with that package.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import types
import warnings
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, sys.argv[1])
os.environ["TRITON_INTERPRET"] = "1"

import simulated_gpu
import torch
import torch._inductor.config as inductor
from torch import Tensor
from torch._inductor.fx_passes import fuse_attention
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime import triton_helpers
from torch._inductor.runtime.triton_heuristics import CachingAutotuner
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _triton
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import make_backend

from sfbench.reference.attention import Seen
from sfbench.reference.masks import block_causal, clean_and_noisy

H100 = SimpleNamespace(
    name="NVIDIA H100",
    major=9,
    minor=0,
    total_memory=80 * 2**30,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448,
    L2_cache_size=50 * 2**20,
)
MASKS = {
    "diffusion forcing": block_causal(15, 3, window=12),
    "sinks": block_causal(10, 2, window=4, sink=2),
    "teacher forcing": clean_and_noisy(15, 3, window=12),
    "first frame alone": clean_and_noisy(7, 2, alone=True),
}
TOKENS = 16  # of a frame, as in the preset base; no length is a multiple of a block of 128
GUARDS = torch._C._dynamo.guards


def compiled_for_a_gpu() -> None:
    """Let torch compile for a GPU that only the cards of its maker describe."""
    from torch._dynamo.device_interface import CudaInterface

    for interface in (CudaInterface, CudaInterface.Worker):
        interface.get_device_properties = staticmethod(lambda *device: H100)
        interface.current_device = staticmethod(lambda: 0)
    CudaInterface.get_raw_stream = staticmethod(lambda device=0: 0)
    torch.cuda.get_device_properties = lambda *device: H100
    torch.cuda.get_rng_state = lambda *device: torch.get_rng_state()
    torch.cuda.set_rng_state = lambda *state, **how: None
    torch.cuda.device = lambda *device: contextlib.nullcontext()
    torch.cuda._DeviceGuard = lambda device: contextlib.nullcontext()
    torch._C._cuda_getDevice = lambda: 0
    torch._C._cuda_getCurrentRawStream = lambda device: 0
    torch.compile = simulated_gpu.COMPILE
    _triton.triton_hash_with_backend = lambda: "SIMULATED"
    _triton.triton_backend = lambda: make_backend(GPUTarget("cuda", 90, 32))
    triton_helpers.set_driver_to_gpu = lambda: None
    fuse_attention._sfdp_init = lambda *device: None  # of other attention; it runs on the device
    inductor.compile_threads, inductor.fx_graph_cache = 1, False
    GUARDS.copy_if_misaligned = lambda x: x


def written(frames: Tensor, shape: tuple[int, ...]) -> list[Any]:
    """What torch writes for a call and for its gradient: a module each."""
    codes: list[str] = []
    GraphLowering.save_output_code = staticmethod(codes.append)
    run, CachingAutotuner.run = CachingAutotuner.run, lambda *args, **how: None  # no values yet
    sizes, GUARDS.assert_size_stride = GUARDS.assert_size_stride, lambda *args: None
    GUARDS._empty_strided_cuda = lambda size, stride, dtype: torch.empty_strided(
        size, stride, dtype=dtype, device="cuda"
    )
    with FakeTensorMode(allow_non_fake_inputs=True):
        q, k, v = (torch.randn(shape, device="cuda", requires_grad=True) for _ in range(3))
        Seen(frames, TOKENS, "flex").attend(q, k, v).sum().backward()
    CachingAutotuner.run, GUARDS.assert_size_stride = run, sizes
    torch._dynamo.reset()
    GUARDS._empty_strided_cuda = GUARDS._empty_strided_cpu  # from here on: numbers
    modules = [types.ModuleType(name) for name in ("forward", "backward")]
    for module, code in zip(modules, codes, strict=True):
        exec(compile(code, module.__name__, "exec"), module.__dict__)
    return modules


def errors(frames: Tensor) -> dict[str, float]:
    """The largest differences from the dense mask, of values and of each gradient."""
    shape = (2, 2, frames.shape[0] * TOKENS, 32)
    forward, backward = written(frames, shape)
    q, k, v = (torch.randn(shape, requires_grad=True) for _ in range(3))
    seen = Seen(frames, TOKENS, "flex")
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        seen.attend(*(x.detach() for x in (q, k, v)))  # makes its blocks
    blocks = seen._blocks
    assert blocks is not None
    known = [blocks.kv_indices, blocks.kv_num_blocks, frames]
    known += [blocks.full_kv_num_blocks, blocks.full_kv_indices, blocks.q_num_blocks]
    known += [blocks.q_indices, blocks.full_q_num_blocks, blocks.full_q_indices]
    with torch.no_grad():
        out, *kept = forward.call([q, k, v, *known])
    dense = Seen(frames, TOKENS, "dense").attend(q, k, v)
    toward = torch.randn(shape)
    with torch.no_grad():
        found = [out, *backward.call([*kept, toward])[:3]]
    wanted = [dense, *torch.autograd.grad(dense, (q, k, v), toward)]
    pairs = zip("oqkv", found, wanted, strict=True)
    return {name: float((a - b).detach().abs().max()) for name, a, b in pairs}


compiled_for_a_gpu()
torch.manual_seed(0)
for name, frames in MASKS.items():
    print(json.dumps({"mask": name, **errors(frames)}), flush=True)
