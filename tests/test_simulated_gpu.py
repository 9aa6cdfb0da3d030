"""What a machine without a GPU can show of one: see ``simulated_gpu.py``.

That every tensor is where it must be, that the same is learned, how often the host waits, and what
flex attention's kernels compute (``make test-flex``). All times stay with ``make gpu``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sfbench.reference.recipes import PRESETS, load_preset

TESTS = Path(__file__).parent
ROWS = [*load_preset("smoke").methods]

pytestmark = pytest.mark.skipif(
    not torch.__version__.startswith("2.13.") or torch.version.cuda is not None,
    reason="simulated_gpu.cpp stands in for what a CPU build of torch 2.13 asks of CUDA",
)

Simulated = Callable[..., str]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """Runs Python on the simulated GPU; returns what it says on stdout."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C++ compiler here")  # sfbench itself needs none
    folder = tmp_path_factory.mktemp("simulated")
    (home,) = importlib.util.find_spec("torch").submodule_search_locations
    library, near = folder / "gpu.so", Path(home, "lib")
    paths = ["-I", Path(home, "include"), "-L", near, f"-Wl,-rpath,{near}"]
    names = ["-lc10", "-ltorch_cpu"]
    command = [compiler, "-std=c++20", "-fPIC", "-shared", *paths, "-o", library]
    subprocess.run([*command, TESTS / "simulated_gpu.cpp", *names], check=True)

    def simulated(*arguments: object, cwd: Path = folder) -> str:
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}
        command = [sys.executable, TESTS / "simulated_gpu.py", library, *arguments]
        done = subprocess.run(
            [*map(str, command)], env=env, cwd=cwd, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    return simulated


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text)
    return path


# --- the simulation itself ------------------------------------------------------------------------


REFUSED = """
import pytest, torch
from simulated_gpu import WAITS

x, w = torch.ones(3, 4, device="cuda"), torch.nn.Linear(4, 2).to("cuda")
assert x.is_cuda and w.weight.is_cuda and w(x).device == torch.device("cuda", 0)
for wrong in (lambda: x + torch.ones(4), lambda: torch.ones(3, 4) @ w.weight.T,
              lambda: torch.ones(3)[torch.zeros(2, dtype=torch.long, device="cuda")]):
    with pytest.raises(RuntimeError, match="two devices"):
        wrong()
with pytest.raises(TypeError, match="numpy"):
    x.numpy()
assert (x + torch.tensor(1.0)).cpu().numpy().sum() == 24  # a number may come from the host
w(x).sum().backward()
assert w.weight.grad.is_cuda and w.weight.grad.tolist() == [[3.0] * 4] * 2

before = WAITS.total()
torch.ones(3).pin_memory().to("cuda", non_blocking=True) * 2
assert WAITS.total() == before
torch.ones(3).to("cuda"), x.sum().item(), x.cpu(), torch.arange(2, device="cuda").repeat_interleave(
    torch.tensor([1, 2], device="cuda"))
assert WAITS.total() > before + 3
torch.cuda.set_sync_debug_mode("error")
with pytest.raises(RuntimeError, match="synchronizing"):
    float(x.sum())
torch.cuda.set_sync_debug_mode("default")

graph = torch.cuda.CUDAGraph()
with torch.no_grad(), torch.cuda.graph(graph):
    out = (x * 2)[0]
x.fill_(5)
assert out.tolist() == [2.0] * 4
graph.replay()
assert out.tolist() == [10.0] * 4
with pytest.raises(RuntimeError, match="capturing"), torch.cuda.graph(graph):
    x.sum().item()
print("all refused")
"""


def test_what_a_gpu_refuses_is_refused(simulated: Simulated, tmp_path: Path) -> None:
    assert "all refused" in simulated(script(tmp_path, REFUSED))


# --- what runs on it ------------------------------------------------------------------------------


def test_the_tests_of_a_gpu_pass(simulated: Simulated) -> None:
    marked = [path for path in TESTS.glob("test_*.py") if "mark.gpu" in path.read_text()]
    marked = [path for path in marked if path != Path(__file__)]
    options = ["-m", "gpu", "-k", "not flex", "-p", "no:xdist", "-p", "no:cacheprovider", "-v"]
    said = simulated("-m", "pytest", *options, *marked, cwd=TESTS.parent)
    assert "15 passed" in said and "skipped" not in said and "failed" not in said


TRAINED = """
import json, sys
from pathlib import Path
from rich.console import Console
from sfbench.reference import trainer

trainer.LOG_EVERY = 1
rows, given, found = sys.argv[1:], ["data.clips=32"], {}
for device in ("cpu", "cuda"):
    Path(device).mkdir()
    for shared in ("weights", "cache"):  # both start from the same ancestors
        Path(shared).mkdir(exist_ok=True)
        (Path(device) / shared).symlink_to(Path(shared).resolve())
for row in rows:
    given += [f"methods.{row}.{what}" for what in ("steps=3", "critic_warmup=0", "critic_ratio=1")]
for row in rows:
    for device in ("cpu", "cuda"):
        here = [*given, f"engine.device={device}"]
        trainer.train("smoke", row, here, Path(device), console=Console(quiet=True))
        lines = (Path(device) / row / "train.jsonl").read_text().splitlines()
        found.setdefault(row, {})[device] = [json.loads(line) for line in lines]
Path("found.json").write_text(json.dumps(found))
"""


Logs = dict[str, dict[str, list[dict[str, float]]]]


@pytest.fixture(scope="module")
def learned(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Logs:
    """The log of each row, step by step, by row and device."""
    folder = tmp_path_factory.mktemp("learned")
    simulated(script(folder, TRAINED), *ROWS, cwd=folder)
    found: Logs = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.parametrize("row", ROWS)
def test_every_method_learns_there_what_it_learns_on_the_cpu(learned: Logs, row: str) -> None:
    """Later steps differ more: Adam makes a whole step of a gradient that only rounds."""
    here, there = learned[row]["cpu"], learned[row]["cuda"]
    for step, near in ((0, 1e-4), (2, 0.03)):
        a, b = here[step], there[step]
        losses = [name for name in a if name.endswith("_loss") and isinstance(a[name], float)]
        assert a.keys() == b.keys() and losses
        for name in losses:
            assert b[name] == pytest.approx(a[name], rel=near, abs=1e-9), (step, name)


WAITING = """
import json, sys
from pathlib import Path
from rich.console import Console
from simulated_gpu import WAITS
from sfbench.reference import run
from sfbench.reference.ancestry import lineage
from sfbench.reference.recipes import load_preset
from sfbench.reference.trainer import train

(row, batch, layers), found = sys.argv[1:], {}
advance = run.Run.advance

def counted(self, *args):
    WAITS.clear()
    advance(self, *args)
    found.update({f"{what} at {where}": count for (what, where), count in WAITS.items()})

run.Run.advance = counted
given = ["data.clips=32", "engine.device=cuda", "engine.graded=apart", f"model.layers={layers}"]
for name in lineage(load_preset("smoke"), [row]):
    given += [f"methods.{name}.{w}" for w in ("steps=2", "critic_warmup=0", "critic_ratio=1")]
    given += [f"methods.{name}.batch={batch}"]
    found.clear()
    train("smoke", name, given, Path("out"), console=Console(quiet=True))
print(json.dumps(found))
"""


@pytest.mark.parametrize("row", ["diffusion-forcing", "teacher-forcing", "self-forcing-dmd"])
def test_the_host_waits_equally_often_whatever_the_size(
    simulated: Simulated, tmp_path: Path, row: str
) -> None:
    """A wait a layer or a sample would leave a GPU with nothing to do."""
    found = []
    for batch, layers in ((2, 1), (5, 3)):
        folder = tmp_path / str(batch)
        folder.mkdir()
        said = simulated(script(folder, WAITING), row, batch, layers, cwd=folder)
        found.append(json.loads(said.splitlines()[-1]))
    assert found[0] == found[1]
    assert 1 <= sum(found[0].values()) <= 20, found[0]


TRITON = os.environ.get("SFBENCH_TRITON", "")


@pytest.mark.skipif(not TRITON, reason="make test-flex: SFBENCH_TRITON is a folder with triton")
def test_flex_attentions_kernels_give_values_and_gradients(
    simulated: Simulated, tmp_path: Path
) -> None:
    """As torch writes them for a GPU, run by Triton's interpreter."""
    said = simulated(TESTS / "flex_kernel.py", TRITON, cwd=tmp_path)
    found = [json.loads(line) for line in said.splitlines()]
    print("", *found, sep="\n")
    assert len(found) == 4
    for errors in found:
        assert max(errors[name] for name in "oqkv") < 1e-5, errors


SERVED = """
import json, time
from pathlib import Path
from sfbench.reference import gpu

gpu.PACE_STEPS = 10 + 2  # a line of the log at 10 and at the last
job = gpu.Job("little.yaml", "cuda", Path("work"), time.monotonic() + 9999)
for row in job.rows:
    job.train(row, 2, 0, job.work)
job.graded(job.rows[-1]), job.streaming(job.rows[-1])
Path("found.json").write_text(json.dumps(gpu.provenance("cuda")))
"""


def test_what_is_trained_there_streams_and_is_measured(
    simulated: Simulated, tmp_path: Path
) -> None:
    text = (PRESETS / "smoke.yaml").read_text()
    (tmp_path / "little.yaml").write_text(text.replace("clips: 512", "clips: 32"))
    simulated(script(tmp_path, SERVED), cwd=tmp_path)
    assert json.loads((tmp_path / "found.json").read_text())["device"] == "Simulated GPU"
    weights = tmp_path / "work/weights/little-self-forcing-dmd.safetensors"
    task = ["--task", "long-horizon", "--tier", "smoke", "--limit", 2, "--device", "cuda"]
    model = ["--model", f"reference:{weights}", "--size", 16, "--out", "runs"]
    simulated("-m", "sfbench", "run", *task, *model, cwd=tmp_path)
    (result,) = tmp_path.glob("runs/**/result.json")
    found = json.loads(result.read_text())
    assert found["provenance"]["device"] == "Simulated GPU" and not found["failures"]


SMALL = {
    "size: [480, 832]": "size: [32, 48]",
    " frames: 21": " frames: 6",
    "clip_frames: 21": "clip_frames: 6",
    "length: 512, dim: 4096": "length: 8, dim: 32",
    " dim: 1536": " dim: 128",
    "ffn_dim: 8960": "ffn_dim: 64",
    "layers: 30": "layers: 1",
    "heads: 12": "heads: 1",
    "blocks: [13, 21, 29]": "blocks: [0]",
}


def test_wans_stream_is_timed_there(simulated: Simulated, tmp_path: Path) -> None:
    """With Wan's own VAE: recorded graphs, decoding beside denoising, all switches."""
    text = (PRESETS / "wan-1.3b.yaml").read_text()
    for published, small in SMALL.items():
        assert published in text
        text = text.replace(published, small)
    (tmp_path / "small.yaml").write_text(text)
    code = "from sfbench.reference import gpu_wan; gpu_wan.CEILING['cuda'] = 64; "
    code += "gpu_wan.main(['--preset', 'small.yaml', '--minutes', '99', '--out', 'out'])"
    simulated(script(tmp_path, code), cwd=tmp_path)
    (path,) = (tmp_path / "out").iterdir()
    found = json.loads(path.read_text())
    assert found["provenance"]["cuda"] == "simulated" and found["dtype"] == "bfloat16"
    assert len(found["decoders"]) == 4
    names = [stream["what"] for stream in found["streams"]]
    assert {"engine", "without graphs", "in 8 bits", "the DiT itself"} <= {*names}
    assert "engine, channels last decoder" in names
