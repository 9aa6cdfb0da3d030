"""A pretended GPU: ``python simulated_gpu.py LIBRARY (-m MODULE | SCRIPT) [ARGUMENTS]``.

Runs a program on a device "cuda" whose tensors lie in the CPU's memory. What a GPU refuses is
refused: tensors of two devices in one operation, NumPy's view, and what waits for the host while a
graph is recorded or where :func:`torch.cuda.set_sync_debug_mode` forbids it. What the host waits
for is counted (:data:`WAITS`). A graph is replayed for true, operation by operation.

It shows that a program puts its tensors in the right places, and nothing of a GPU's numbers or
times: operations are the CPU's, and ``torch.compile`` compiles nothing. ``LIBRARY`` is
``simulated_gpu.cpp``, compiled as in ``test_simulated_gpu.py``.
"""

from __future__ import annotations

import contextlib
import ctypes
import runpy
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)  # before torch asks whether there is a GPU

import safetensors.torch
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

COMPILE = torch.compile
GPU, ROOT = torch.device("cuda", 0), Path(__file__).resolve().parents[1]
WAITS: Counter[tuple[str, str]] = Counter()
"""What the host waited for, and the line of sfbench that asked for it."""
INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}
COPYING = {"copy_", "_to_copy", "_local_scalar_dense", "_foreach_copy_"}


class OnGpu(Tensor):
    """A tensor of the GPU; ``held`` is its content, in the CPU's memory."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        return Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=GPU,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"OnGpu({self.held})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied: Tensor = OnGpu(self.held.clone()).requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, self.requires_grad)
            memo[id(self)] = copied
        return memo[id(self)]

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def tolist(self) -> Any:
        wait("tolist")
        return self.held.tolist()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return run(func, args, kwargs or {})


# --- an operation ---------------------------------------------------------------------------------


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """On the CPU, once a GPU would have done it."""
    name, asked = func._schema.name.removeprefix("aten::"), kwargs.get("device")
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, OnGpu)]
    here = [x for x in tensors if not isinstance(x, OnGpu)]
    on_gpu = bool(there) if asked is None else torch.device(asked).type == "cuda"
    ensure_possible(name, args, here, there)
    if waits(name, args, kwargs, here, on_gpu):
        wait(name)

    held_args, held_kwargs = tree_map(content, (args, kwargs))
    held_kwargs |= {} if asked is None else {"device": torch.device("cpu")}
    held_kwargs.pop("pin_memory", None)
    out = func(*held_args, **held_kwargs)
    if Recording.now is not None and on_gpu and not func.is_view:
        Recording.now.append((func, held_args, held_kwargs, out))
    known = {id(x.held): x for x in there}  # what is changed in place stays the tensor it was
    return tree_map(lambda x: known[id(x)] if id(x) in known else placed(x), out) if on_gpu else out


def content(x: Any) -> Any:
    return x.held if isinstance(x, OnGpu) else x


def placed(x: Any) -> Any:
    return OnGpu(x) if isinstance(x, Tensor) else x


def ensure_possible(
    name: str, args: tuple[Any, ...], here: list[Tensor], there: list[OnGpu]
) -> None:
    """Numbers may come from the host, and indices; tensors may not."""
    if name in COPYING or not there:
        return
    if name in INDEXING:
        here = [] if isinstance(args[0], OnGpu) else there
    if any(x.dim() for x in here):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! ({name})"
        )


def waits(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], here: list[Tensor], on_gpu: bool
) -> bool:
    """Whether the host would wait until the GPU is there."""
    if name in INDEXING:
        return bool(here)
    if name == "repeat_interleave":  # of counts that only the GPU knows
        return kwargs.get("output_size") is None and not (len(args) > 1 and args[1])
    if name == "copy_":
        freely = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
        return isinstance(args[0], OnGpu) != isinstance(args[1], OnGpu) and not freely
    if name == "_to_copy":
        freely = kwargs.get("non_blocking") and getattr(args[0], "pinned", False)
        return isinstance(args[0], OnGpu) != on_gpu and not freely
    return name in ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim")


def wait(what: str) -> None:
    """The host waits, where it may."""
    lines = [f for f in traceback.extract_stack() if Path(f.filename).parent.parent == ROOT]
    last = next((f for f in reversed(lines) if Path(f.filename) != Path(__file__)), None)
    WAITS[what, f"{Path(last.filename).name}:{last.lineno}" if last else ""] += 1
    if Recording.now is not None:
        raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {what}")
    if Api.waiting == "error":
        raise RuntimeError(f"called a synchronizing CUDA operation: {what}")


def factories() -> torch.library.Library:
    """Tensors that are made on the GPU."""
    library = torch.library.Library("aten", "IMPL")

    def made(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def make(*args: Any, dtype: Any = None, memory_format: Any = None, **how: Any) -> Tensor:
            how = {"memory_format": memory_format} if memory_format is not None else {}
            return OnGpu(function(*args, dtype=dtype, **how))

        return make

    for name in ("empty.memory_format", "empty_strided", "linspace", "eye", "eye.m"):
        library.impl(name, made(getattr(torch, name.partition(".")[0])), "CUDA")
    for name in ("arange", "arange.start", "arange.start_step"):
        library.impl(name, made(torch.arange), "CUDA")
    return library


# --- torch.cuda -----------------------------------------------------------------------------------


class Stream:
    """The one there is; it is always done."""

    def __init__(self, device: Any = None, priority: int = 0) -> None: ...
    def synchronize(self) -> None: ...
    def wait_event(self, event: Any) -> None: ...

    def wait_stream(self, other: Any) -> None:
        assert isinstance(other, Stream)

    def record_event(self, event: Any = None) -> Any:
        return event or Event()


class Event:
    """A moment."""

    def __init__(self, enable_timing: bool = False, **how: Any) -> None:
        self.at = 0.0

    def record(self, stream: Any = None) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None: ...
    def wait(self, stream: Any = None) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Any) -> float:
        return float(1000 * (other.at - self.at))


class Recording:
    """What a graph holds: each operation, its arguments, and the memory of its results."""

    now: list[tuple[Any, ...]] | None = None
    done: list[tuple[Any, ...]]

    def replay(self) -> None:
        for func, args, kwargs, out in self.done:
            with torch.no_grad():
                again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@contextlib.contextmanager
def recording(graph: Recording, pool: Any = None, stream: Any = None) -> Iterator[None]:
    Recording.now = graph.done = []
    try:
        yield
    finally:
        Recording.now = None


class Api:
    """What stands in for functions of :mod:`torch.cuda`."""

    waiting = "default"
    stream = Stream()

    @staticmethod
    def set_sync_debug_mode(mode: str) -> None:
        Api.waiting = mode

    @staticmethod
    def install() -> None:
        properties = SimpleNamespace(
            name="Simulated GPU", total_memory=80 * 2**30, major=9, minor=0
        )
        answers = {
            "_lazy_init": None,
            "current_device": 0,
            "current_stream": Api.stream,
            "default_stream": Api.stream,
            "device_count": 1,
            "get_device_capability": (properties.major, properties.minor),
            "get_device_name": properties.name,
            "get_device_properties": properties,
            "graph_pool_handle": (0, 1),
            "is_available": True,
            "is_bf16_supported": True,
            "is_initialized": True,
            "max_memory_allocated": 2**30,
            "mem_get_info": (70 * 2**30, properties.total_memory),
            "reset_peak_memory_stats": None,
            "set_device": None,
        }
        for name, value in answers.items():
            setattr(torch.cuda, name, lambda *args, value=value, **how: value)
        torch.cuda.synchronize = lambda device=None: wait("synchronize")
        torch.cuda.set_sync_debug_mode = Api.set_sync_debug_mode
        torch.cuda.stream = lambda stream: contextlib.nullcontext()
        torch.cuda.Stream, torch.cuda.Event = Stream, Event
        torch.cuda.CUDAGraph, torch.cuda.graph = Recording, recording
        torch.version.cuda = "simulated"


# --- what of torch does not know such tensors -----------------------------------------------------


def pinned(x: Tensor, device: Any = None) -> Tensor:
    copied = x.clone()
    copied.pinned = True
    return copied


def set_data(tensor: Tensor, other: Tensor) -> None:
    """``tensor.data = other``, where one of them is on the GPU: the object becomes the other."""
    if not isinstance(tensor, OnGpu) and not isinstance(other, OnGpu):
        torch._C.TensorBase.data.__set__(tensor, other)
        return
    new = other.detach()
    if isinstance(tensor, torch.nn.Parameter):
        new = torch.nn.Parameter(new, tensor.requires_grad)
    torch.utils.swap_tensors(tensor, new)


def get_data(tensor: Tensor) -> Tensor:
    if isinstance(tensor, OnGpu):
        return tensor.detach()
    return torch._C.TensorBase.data.__get__(tensor)


def without_inference_mode(mode: bool = True) -> Any:
    """No gradient is what matters of it; its tensors cannot be wrapped."""
    return torch.no_grad() if mode else torch.set_grad_enabled(torch.is_grad_enabled())


def teach_torch() -> None:
    Api.install()
    torch._C._set_only_lift_cpu_tensors(True)  # ``torch.tensor(..., device="cuda")``: by a copy
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # ``module.to``
    Tensor.pin_memory = pinned
    Tensor.record_stream = lambda tensor, stream: None
    Tensor.data = property(get_data, set_data)
    torch.inference_mode = without_inference_mode
    torch.compile = lambda function=None, **how: function or (lambda later: later)
    save = safetensors.torch.save_file
    safetensors.torch.save_file = lambda tensors, *args, **how: save(
        {name: content(x) for name, x in tensors.items()}, *args, **how
    )


if __name__ == "__main__":
    sys.modules["simulated_gpu"] = sys.modules["__main__"]
    KEPT = factories()
    teach_torch()
    sys.argv = sys.argv[2:]
    if sys.argv[0] == "-m":
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
