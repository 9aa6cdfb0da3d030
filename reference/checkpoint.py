"""Weights and training state on disk: safetensors beside JSON, written atomically, never executed.

A checkpoint is a folder ``step-00001000/`` of ``state.safetensors`` and ``state.json``; it counts
only when its JSON is there and the hash in it fits, and it appears under its name by one rename.
A sharded run's has several files of tensors (``checkpoint_shards.py``).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

READERS = 8
"""Files that are hashed at once: a disk that many machines share is faster that way."""


class CheckpointError(ValueError):
    """A file that cannot be used; the text is one sentence."""


def save_state(folder: Path, step: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Path:
    """Write ``step-N`` under ``folder`` and keep only it and the one before it."""
    part = folder / f".part-{step:08d}-{os.getpid()}"
    part.mkdir(parents=True)
    try:
        file = part / "state.safetensors"
        save_file({k: v.contiguous() for k, v in tensors.items()}, file)
        return publish(part, folder / f"step-{step:08d}", {**meta, "sha256": sha256(file)})
    finally:
        shutil.rmtree(part, ignore_errors=True)


def publish(part: Path, final: Path, meta: dict[str, Any]) -> Path:
    """Give a folder of tensors its JSON and its name; of older ones keep one."""
    meta = {**meta, "step": int(final.name.removeprefix("step-"))}
    (part / "state.json").write_text(json.dumps(meta, indent=1, sort_keys=True))
    _sync(part)
    if final.exists():
        shutil.rmtree(final)
    part.rename(final)
    for old in sorted(final.parent.glob("step-*"))[:-2]:
        shutil.rmtree(old)
    return final


def newest(folder: Path) -> tuple[Path, dict[str, Any], list[str]] | None:
    """The newest complete state under ``folder``: its own folder, what its JSON says, and a
    sentence for each one passed over."""
    skipped: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            meta = json.loads((path / "state.json").read_text())
            for name, expected in meta.get("files", {"state.safetensors": meta["sha256"]}).items():
                if sha256(path / Path(name).name) != expected:
                    raise CheckpointError("its tensors do not match the hash in its state.json")
            return path, meta, skipped
        except (OSError, ValueError, KeyError) as error:
            skipped.append(f"Checkpoint {path.name} is damaged ({error}); using the one before it.")
    return None


def told(folder: Path) -> dict[str, Any] | None:
    """What the newest state under ``folder`` says of itself, none of its tensors looked at."""
    for path in sorted(folder.glob("step-*/state.json"), reverse=True):
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # `newest` says so
        return found
    return None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a state, whole, whoever wrote it."""
    file = path / "state.safetensors"
    if file.exists():
        return load_file(file)
    from .checkpoint_shards import load_whole  # torch imports much for it

    return load_whole(path)


def save_weights(path: Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Write ``path`` (half precision) and its card ``.json``; the card holds the file's hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    # A metadata line, because the safetensors header is otherwise ordered by chance.
    save_file({k: v.half().contiguous() for k, v in sorted(tensors.items())}, part)
    part.chmod(0o644)  # safetensors makes files for their owner alone
    card = {**card, "sha256": sha256(part)}
    os.replace(part, path)
    card_part = part.with_suffix(".json.part")
    card_part.write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    os.replace(card_part, path.with_suffix(".json"))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors in single precision, and the card. Only safetensors are read: no code can run."""
    try:
        card = json.loads(path.with_suffix(".json").read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path.name} has no card beside it ({path.stem}.json).") from None
    except ValueError as error:
        raise CheckpointError(f"The card of {path.name} is not JSON: {error}.") from None
    if not path.exists():
        raise CheckpointError(f"The weights file {path.name} is missing beside its card.")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path.name} is not a safetensors file ({error}); other formats can run code when "
            "they are loaded and are refused. Convert it first."
        ) from None
    found = sha256(path)
    if card.get("sha256") != found:
        raise CheckpointError(
            f"{path.name} has SHA-256 {found[:12]}, its card says {str(card.get('sha256'))[:12]}; "
            "the file was changed or cut short: fetch or train it again."
        )
    return {k: v.float() for k, v in tensors.items()}, card


def load_into(module: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Copy tensors into a module; a missing, extra or misshapen one is named."""
    own = module.state_dict()
    tensors = {
        k: v for k, v in tensors.items() if k in own or not k.endswith("num_batches_tracked")
    }
    wrong = sorted(own.keys() ^ tensors.keys()) or sorted(
        k for k, v in tensors.items() if own[k].shape != v.shape
    )
    if wrong:
        raise CheckpointError(
            f"The weights of {what} do not fit its configuration: {', '.join(wrong[:3])}"
            f"{' and more' if len(wrong) > 3 else ''}."
        )
    module.load_state_dict(tensors)


def prefixed(prefix: str, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """``name`` becomes ``prefix.name``."""
    return {f"{prefix}.{name}": tensor.detach() for name, tensor in tensors}


def unprefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state under ``prefix``, its prefix taken off."""
    head = f"{prefix}."
    return {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as ``index.name`` tensors."""
    state = optimiser.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, item in state.items() for k, v in item.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Inverse of :func:`optimiser_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_hash(files: Iterable[Path], root: Path) -> str:
    """Of names, from ``root`` on, and contents, in order of name."""
    ordered = sorted(files, key=lambda path: path.relative_to(root).parts)
    with ThreadPoolExecutor(READERS) as threads:
        hashes = threads.map(sha256, ordered)
        lines = zip(ordered, hashes, strict=True)
        told = "".join(f"{path.relative_to(root).as_posix()} {found}\n" for path, found in lines)
    return hashlib.sha256(told.encode()).hexdigest()


def _sync(folder: Path) -> None:
    """Make files durable before the rename that makes them visible."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
