"""A sharded run's state on disk: each process writes its own pieces, and any number reads them.

By ``torch.distributed.checkpoint``, with its safetensors storage: what it writes otherwise has a
pickle beside it, and a pickle can run code. Pieces know their place in the whole tensor, so that a
run may go on among another number of processes, or in one.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from . import checkpoint as ckpt
from .distributed import World


def save_state(
    folder: Path, step: int, tensors: dict[str, Tensor], meta: dict[str, Any], world: World
) -> None:
    """As :func:`.checkpoint.save_state`, by all processes at once."""
    part = folder / f".part-{step:08d}-shards"
    if world.first:
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        part.mkdir(parents=True)
    world.wait()
    save(tensors, storage_writer=HuggingFaceStorageWriter(str(part), save_distributed=True))
    if world.first:
        files = {file.name: ckpt.sha256(file) for file in sorted(part.glob("*.safetensors"))}
        ckpt.publish(part, folder / f"step-{step:08d}", {**meta, "files": files})


def load_state(
    path: Path, networks: dict[str, Tensor], optimised: dict[str, list[nn.Parameter]]
) -> dict[str, Tensor]:
    """Fill the networks' tensors in place with a state's, and return its optimisers' besides.

    ``optimised``: the parameters of each optimiser, whose order is that of its states.
    """
    reader = HuggingFaceStorageReader(str(path))
    tensors = dict(networks)
    for name in reader.read_metadata().state_dict_metadata:
        owner, _, rest = name.partition(".")
        if owner in optimised:
            index, _, key = rest.partition(".")
            like = optimised[owner][int(index)].detach()
            tensors[name] = torch.zeros(()) if key == "step" else torch.zeros_like(like)
    load(tensors, storage_reader=reader)
    return tensors


def load_whole(path: Path) -> dict[str, Tensor]:
    """All tensors of a state, put together from its pieces, without the other processes' help."""
    reader = HuggingFaceStorageReader(str(path))
    tensors = {
        name: torch.empty(known.size, dtype=known.properties.dtype)
        for name, known in reader.read_metadata().state_dict_metadata.items()
        if isinstance(known, TensorStorageMetadata)
    }
    load(tensors, storage_reader=reader, no_dist=True)
    return tensors
