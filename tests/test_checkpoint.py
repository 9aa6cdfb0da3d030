"""Weights and states on disk: complete or not counted, and never executed."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from sfbench.reference import checkpoint as ckpt


def test_a_damaged_newest_state_is_passed_over(tmp_path: Path) -> None:
    for step in (5, 10):
        ckpt.save_state(tmp_path, step, {"x": torch.full((3,), float(step))}, {"recipe": "r"})
    newest = tmp_path / "step-00000010" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-4])
    found = ckpt.newest(tmp_path)
    assert found is not None
    path, meta, skipped = found
    tensors = ckpt.load_tensors(path)
    assert meta["step"] == 5 and tensors["x"].tolist() == [5.0] * 3
    assert len(skipped) == 1 and "step-00000010" in skipped[0]


def test_a_state_without_its_json_does_not_count(tmp_path: Path) -> None:
    ckpt.save_state(tmp_path, 5, {"x": torch.ones(1)}, {})
    (tmp_path / "step-00000005" / "state.json").unlink()
    assert ckpt.newest(tmp_path) is None


def test_two_states_are_kept_and_no_parts_left(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        ckpt.save_state(tmp_path, step, {"x": torch.ones(1)}, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ckpt.save_state(tmp_path, 1, {"x": torch.ones(1)}, {})
    monkeypatch.setattr(ckpt, "save_file", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        ckpt.save_state(tmp_path, 2, {"x": torch.ones(1)}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Trap(marker)))
    path.with_suffix(".json").write_text(json.dumps({"sha256": ckpt.sha256(path)}))
    with pytest.raises(ckpt.CheckpointError, match="not a safetensors file"):
        ckpt.load_weights(path)
    assert not marker.exists()


def test_weights_round_trip_with_their_card(tmp_path: Path) -> None:
    path = tmp_path / "w" / "m.safetensors"
    ckpt.save_weights(path, {"a": torch.tensor([1.0, 0.5])}, {"name": "m"})
    tensors, card = ckpt.load_weights(path)
    assert tensors["a"].tolist() == [1.0, 0.5] and tensors["a"].dtype == torch.float32
    assert card["name"] == "m" and len(card["sha256"]) == 64
    assert sorted(p.name for p in path.parent.iterdir()) == ["m.json", "m.safetensors"]


def test_equal_weights_make_equal_files(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(2), "a": torch.zeros(3)}
    for name in ("one", "two"):
        ckpt.save_weights(tmp_path / f"{name}.safetensors", tensors, {})
    assert ckpt.sha256(tmp_path / "one.safetensors") == ckpt.sha256(tmp_path / "two.safetensors")


@pytest.mark.parametrize("damage", ["truncate", "no card", "no weights", "swap"])
def test_each_damage_is_one_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m.safetensors"
    ckpt.save_weights(path, {"a": torch.ones(64)}, {"name": "m"})
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "no card":
        path.with_suffix(".json").unlink()
    elif damage == "no weights":
        path.unlink()
    else:
        other = tmp_path / "o.safetensors"
        ckpt.save_weights(other, {"a": torch.zeros(64)}, {"name": "o"})
        path.write_bytes(other.read_bytes())
    with pytest.raises(ckpt.CheckpointError) as error:
        ckpt.load_weights(path)
    assert "m" in str(error.value) and "\n" not in str(error.value).strip()


def test_weights_of_another_shape_are_named() -> None:
    with pytest.raises(ckpt.CheckpointError, match=r"of teacher .*: weight"):
        ckpt.load_into(
            torch.nn.Linear(2, 2), {"weight": torch.ones(3, 2), "bias": torch.ones(2)}, "teacher"
        )
    with pytest.raises(ckpt.CheckpointError, match="bias"):
        ckpt.load_into(torch.nn.Linear(2, 2), {"weight": torch.ones(2, 2)}, "teacher")


def test_an_optimisers_state_survives(tmp_path: Path) -> None:
    nets = [torch.nn.Linear(3, 2) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    optimisers = [torch.optim.AdamW(n.parameters(), lr=0.1) for n in nets]

    def step(i: int) -> None:
        nets[i](torch.ones(1, 3)).square().sum().backward()
        optimisers[i].step()
        optimisers[i].zero_grad()

    step(0)
    step(1)
    fresh = torch.optim.AdamW(nets[1].parameters(), lr=0.1)
    ckpt.load_optimiser(fresh, ckpt.optimiser_tensors(optimisers[1]))
    optimisers[1] = fresh
    step(0)
    step(1)
    assert torch.equal(nets[0].weight, nets[1].weight)
