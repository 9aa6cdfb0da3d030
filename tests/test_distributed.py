"""Training among processes: the same steps however the work is laid out, and nothing half done."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sfbench.reference import trainer
from sfbench.reference.checkpoint import load_weights
from sfbench.reference.config import ConfigError, EngineConfig
from sfbench.reference.distributed import World
from sfbench.reference.elsewhere import missing, refusal
from sfbench.reference.methods import METHODS
from sfbench.reference.recipes import load_preset

import distributed_program as program

PROGRAM = Path(__file__).with_name("distributed_program.py")
ALL = ("codec", *METHODS)
SHARD = {"sharding": "shard"}
PATIENCE = 900
"""Seconds; the longest job takes one or two minutes where nothing else runs."""


def start(ranks: int, job: str, *arguments: Any, near: int = 0) -> list[subprocess.Popen[str]]:
    """The processes of a job, as torchrun would start them; ``near``: how many a machine has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = [a if isinstance(a, str) else json.dumps(a) for a in map(_plain, arguments)]
    return [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), job, *words],
            env=os.environ
            | {
                "WORLD_SIZE": str(ranks),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(near or ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def finish(processes: list[subprocess.Popen[str]]) -> None:
    """All end well."""
    try:
        for process in processes:
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every method's first gradients and losses: by one process, and by two in several ways."""
    folder = tmp_path_factory.mktemp("stepped")
    finish(start(1, "steps", folder, {"one": (20, {})}))
    layouts = {
        "replicate": (20, {}),
        "shard": (4, SHARD),
        "accumulate": (20, {"micro_batch": 1, "graded": "apart"}),
        "sequence": (2, {"sequence_parallel": 2}),
        "all": (2, SHARD | {"sequence_parallel": 2, "micro_batch": 2, "checkpoint_blocks": True}),
    }
    finish(start(2, "steps", folder, layouts))
    return folder


LAYOUTS = ("replicate", "shard", "accumulate", "sequence", "all")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ALL)
def test_gradients_are_those_of_one_process(stepped: Path, method: str, layout: str) -> None:
    one, other = (load_file(stepped / f"{name}-{method}.safetensors") for name in ("one", layout))
    assert one.keys() == other.keys() and len(one) > 10
    for player in {name.partition(".")[0] for name in one}:
        own = {name: g for name, g in one.items() if name.startswith(f"{player}.")}
        size = max(float(g.norm()) for g in own.values())
        assert size > 1e-6
        for name, gradient in own.items():
            assert float((gradient - other[name]).norm()) < 1e-5 * size, name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ALL)
def test_losses_are_those_of_one_process(stepped: Path, method: str, layout: str) -> None:
    one, other = (
        json.loads((stepped / f"{name}-{method}.json").read_text()) for name in ("one", layout)
    )
    for step, found in enumerate(other):  # losses, and all other figures of the log
        assert flat(found) == pytest.approx(flat(one[step]), rel=1e-3, abs=1e-4), step


def flat(figures: dict[str, Any]) -> dict[str, float]:
    """Figures, and each chunk's of those that are lists."""
    rows = {k: v if isinstance(v, list) else [v] for k, v in figures.items()}
    return {f"{name} {i}": x for name, row in rows.items() for i, x in enumerate(row)}


def curve(folder: Path, method: str) -> dict[int, dict[str, Any]]:
    """A run's figures by step; of a step that was taken twice the later ones."""
    lines = [json.loads(t) for t in (folder / method / "train.jsonl").read_text().splitlines()]
    return {line.pop("step"): {k: v for k, v in line.items() if k != "seconds"} for line in lines}


def test_a_run_killed_and_resumed_among_others_has_the_same_curve(
    stepped: Path, tmp_path: Path
) -> None:
    """By one process, two that shard, and three that do not, whose batch of four is 1, 1 and 2."""
    method = "self-forcing-dmd"
    legs = ((1, {}, 7), (2, SHARD, 12), (3, {}, 99))
    for ranks, engine, die in legs:
        processes = start(ranks, "resume", tmp_path, engine, method, str(die))
        if die > 20:
            finish(processes)
            break
        processes[-1].communicate(timeout=PATIENCE)
        assert processes[-1].returncode == -signal.SIGKILL
        for process in processes:  # as torchrun does when one of its processes dies
            process.kill()
            process.communicate()
    whole = json.loads((stepped / f"one-{method}.json").read_text())
    parts = curve(tmp_path, method)
    assert sorted(parts) == list(range(1, 21))
    for step, found in parts.items():
        assert flat(found) == pytest.approx(flat(whole[step - 1]), rel=1e-3, abs=1e-4), step
    kept = sorted(path.name for path in (tmp_path / method).glob("step-*"))
    assert kept == ["step-00000015", "step-00000020"]
    assert not list((tmp_path / method).glob("**/*metadata*"))  # a pickle would be there


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes, each on a machine of its own, say of themselves."""
    folder = tmp_path_factory.mktemp("checked")
    finish(start(2, "checks", folder, [{}, SHARD, {"sharding": "hybrid"}], near=1))
    return folder


def test_a_non_finite_value_in_one_process_stops_all_before_the_update(checked: Path) -> None:
    for rank in range(2):
        said = json.loads((checked / f"said-{rank}.json").read_text())
        assert len(said) == 6
        for number, sentence in enumerate(said):
            what = "gradient norm" if number % 2 else "loss"
            assert sentence.startswith(f"The generator's {what} is nan at step 2; the weights")
            assert sentence.endswith("untouched True")


def test_micro_batches_exchange_gradients_once(checked: Path) -> None:
    found = json.loads((checked / "collectives-0.json").read_text())
    assert found["replicate 1"] == found["replicate 0"] == 1  # all fits one bucket
    assert found["shard 1"] == found["shard 0"] == 3  # two blocks, and the rest


def test_torchrun_trains_what_one_process_does(tmp_path: Path) -> None:
    """The command of the README; and only one process speaks and writes."""
    recipe = tmp_path / "two.yaml"
    smoke = (Path(trainer.__file__).parent / "presets" / "smoke.yaml").read_text()
    tree = yaml.safe_load(smoke)
    tree["data"]["clips"] = 16
    rows = ("codec", "diffusion-forcing", "self-forcing-dmd")
    tree["methods"] = {row: tree["methods"][row] | {"steps": 2} for row in rows}
    first = {"critic_warmup": 0, "teacher": rows[1], "critic_init": rows[1]}
    tree["methods"]["self-forcing-dmd"] |= first
    recipe.write_text(yaml.safe_dump(tree))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = ["-m", "sfbench", "train-reference", "--preset", str(recipe), "--out"]
    for name, launch in (("one", [sys.executable]), ("two", [*torchrun, "--nproc-per-node", "2"])):
        done = subprocess.run(
            [*launch, *command, str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("self-forcing-dmd: 2 steps in") == 1
    for row in rows:
        one, two = (
            load_weights(tmp_path / name / "weights" / f"two-{row}.safetensors")
            for name in ("one", "two")
        )
        assert (one[1]["processes"], two[1]["processes"]) == (1, 2)
        assert one[0].keys() == two[0].keys()
        for key, tensor in one[0].items():
            torch.testing.assert_close(two[0][key], tensor, rtol=1e-2, atol=1e-3)


# --- in one process -------------------------------------------------------------------------------


def two_steps(
    method: str, folder: Path, changes: dict[str, Any] | None = None, **engine: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each player's first gradients, and the figures of the second step."""
    made, config, run = program.begin(method, folder, changes, **engine)
    seen = program.gradients(run)
    for _ in range(2):
        run.advance(made, config)
    return seen, run.figures


@pytest.mark.parametrize("method", ["teacher-forcing", "self-forcing-dmd", "self-forcing-gan"])
def test_recomputed_activations_give_the_same_gradients(method: str, tmp_path: Path) -> None:
    """Also through a rollout whose cache rolls on, and a critic that is frozen at that turn."""
    longer = {"longest": 8} if method == "self-forcing-dmd" else {}
    plain, again = (
        two_steps(method, tmp_path, longer, checkpoint_blocks=x)[0] for x in (False, True)
    )
    assert plain.keys() == again.keys()
    size = max(float(g.norm()) for g in plain.values())
    for name, gradient in plain.items():
        assert float((gradient - again[name]).norm()) < 1e-6 * size, name


@pytest.mark.parametrize("method", ["diffusion-forcing", "self-forcing-dmd", "self-forcing-sid"])
def test_bf16_is_near_and_updates_single_precision_weights(method: str, tmp_path: Path) -> None:
    exact, near = (two_steps(method, tmp_path, precision=p) for p in ("fp32", "bf16"))
    assert exact[0].keys() == near[0].keys()
    for player in exact[1]:
        if player.endswith("_loss") and not player.endswith("chunk_loss"):
            assert near[1][player] != exact[1][player]
            assert near[1][player] == pytest.approx(exact[1][player], rel=0.1)
    flat_of = [torch.cat([g.flatten() for g in seen.values()]) for seen, _ in (exact, near)]
    assert flat_of[1].dtype == torch.float32
    assert float((flat_of[0] - flat_of[1]).norm()) < 0.1 * float(flat_of[0].norm())


def test_a_batch_is_cut_into_the_same_samples_by_any_number_of_processes() -> None:
    for ranks, micro in ((1, 0), (1, 3), (1, 5), (2, 0), (2, 4), (3, 2), (4, 1)):
        worlds = [World(EngineConfig(micro_batch=micro), r, ranks) for r in range(ranks)]
        parts = [world.parts(12) for world in worlds]
        assert [i for own in parts for part in own for i in part] == list(range(12))
        assert len({len(own) for own in parts}) == 1
        largest = max(len(part) for own in parts for part in own)
        assert largest == EngineConfig(micro_batch=micro).at_once(12, ranks) <= (micro or 12)
    with pytest.raises(ConfigError, match=r"A batch of 3 cannot be cut into 4 micro-batches"):
        World(EngineConfig(), 0, 4).parts(3)


def test_processes_that_cannot_share_a_sample_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sequence_parallel is 2, which does not divide the 1"):
        World.join(EngineConfig(sequence_parallel=2))


@pytest.mark.parametrize("sharding", ["shard", "hybrid"])
def test_gradient_through_a_cache_is_refused_where_shards_would_lose_it(sharding: str) -> None:
    row = "self-forcing-options"
    preset = load_preset("smoke", [f"engine.sharding={sharding}"])
    lost = f"'{row}' has kv_grad, and shards lose gradients through a cache"
    assert lost in refusal(preset, row) and lost in refusal(preset, "all")
    assert lost in missing(preset, [row])[0]
    assert not refusal(preset, "self-forcing-dmd") and not missing(preset, ["causvid"])
    assert not refusal(load_preset("smoke"), "all")


def test_what_needs_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"no GPU that torch sees; pass --set engine.device=cpu"):
        World.join(EngineConfig(device="cuda"))
    with pytest.raises(ConfigError, match=r"flex has no gradient on a CPU"):
        World.join(EngineConfig(device="cpu", attention="flex"))
