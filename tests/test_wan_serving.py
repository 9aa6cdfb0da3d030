"""How a Wan is served: overlapped, in 8 bits, by options; the values stay what they were."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("pydantic", reason="a GPU's image may lack it")
pytest.importorskip("av", reason="a GPU's image may lack it")
pytest.importorskip("diffusers", reason="a GPU's image may lack it")
pytest.importorskip("ftfy", reason="a GPU's image may lack it")

from sfbench import cli
from sfbench.cli_common import use_device
from sfbench.models import ModelError, resolve
from sfbench.reference.wan import WanModel
from sfbench.schema import Geometry, Prompt, Request

from wan_fixtures import pipeline

WANTED = Prompt(id="p", text="a red disc")
OTHER = Prompt(id="q", text="a blue square")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline(tmp_path_factory.mktemp("wan") / "tiny")


def model(folder: Path, options: str = "") -> WanModel:
    found = resolve(f"wan:{folder}?chunk=1&window=3&steps=2{options}")
    assert isinstance(found, WanModel)
    return found


def request(frames: int = 17) -> Request:
    shape = Geometry(frames=frames, height=32, width=48, fps=16)
    return Request(prompt=WANTED, geometry=shape, seed=0)


def played(model: WanModel, request: Request, switch_after: int | None = None) -> list[np.ndarray]:
    """Chunks, a prompt sent once so many have come."""
    chunks = model.generate(request)
    made = [next(chunks)]
    for number in range(1, 100):
        try:
            made.append(chunks.send(OTHER if number == switch_after else None))
        except StopIteration:
            break
    return made


def same(made: list[np.ndarray], plain: list[np.ndarray]) -> bool:
    return len(made) == len(plain) and all(map(np.array_equal, made, plain))


@pytest.mark.parametrize("recache", [False, True])
def test_overlapping_changes_nothing_and_a_prompt_is_heard_as_soon(
    folder: Path, recache: bool
) -> None:
    """The next chunk was under way under the old prompt: it is made again."""
    plain, ahead = model(folder, "&overlap=off"), model(folder, "&overlap=on")
    plain.recache = ahead.recache = recache
    assert ahead.overlap and not plain.overlap
    still = played(plain, request())
    assert len(still) == 5 and same(played(ahead, request()), still)
    for number in (1, 3, 4):
        switched = played(plain, request(), number)
        assert same(played(ahead, request(), number), switched)
        assert same(switched[:number], still[:number])
        assert not np.array_equal(switched[number], still[number])


def test_an_overlapped_stream_asks_for_a_chunk_before_the_last_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, seen = model(folder, "&overlap=on"), []
    call = type(ahead.engine).__call__
    monkeypatch.setattr(
        type(ahead.engine), "__call__", lambda *a, **k: seen.append(1) or call(*a, **k)
    )
    chunks = ahead.generate(request())
    next(chunks)
    assert len(seen) == 2 + 1 + 2  # two steps, the pass that caches, and two steps more
    split = ahead.generate(request().model_copy(update={"options": {"spans": True}}))
    seen.clear()
    next(split)
    assert len(seen) == 2  # parts that are timed are made one by one


def test_products_in_8_bits_are_another_dtype_and_near(folder: Path) -> None:
    eight, half = model(folder, "&dtype=float8"), model(folder, "&dtype=bfloat16")
    assert eight.card.dtype == "float8" and eight.engine.switches.eight_bit
    assert next(eight.codec.vae.parameters()).dtype == torch.bfloat16
    made, plain = (np.concatenate(played(m, request())).astype(float) for m in (eight, half))
    error = np.abs(made - plain).mean()
    assert 0 < error < 0.3 * np.abs(plain - plain.mean()).mean()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
def test_switches_by_option(folder: Path) -> None:
    found = model(folder, "&attention=math&compile=on")
    assert found.engine.switches.attention == "math" and found.engine.switches.compiled
    assert found.card.compiled and not model(folder).card.compiled
    assert not model(folder).engine.switches.graphs


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("attention=flush", "did you mean flash"),
        ("overlap=yes", "mean off, on"),
        ("dtype=int8", "dtype"),
    ],
)
def test_an_option_that_cannot_be_is_one_sentence(option: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        resolve(f"wan:nowhere?{option}")


def test_graphs_need_a_gpu() -> None:
    with pytest.raises(ModelError, match="to run on the CPU"):
        resolve("wan:nowhere?graphs=on&device=cpu")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param(
            "cuda",
            "torch sees no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ("gpu", "it is cpu or cuda"),
    ],
)
def test_a_device_that_is_not_here_is_one_sentence(
    given: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--device", given, "--dry-run"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_on_the_cpu_no_gpu_is_seen_by_any_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    use_device("cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


# --- on a GPU -------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
def test_on_a_gpu_all_that_is_fast_makes_the_same_video(folder: Path) -> None:
    """Graphs, overlapping and a chosen kernel, in single precision, against none of them."""
    plain = model(folder, "&dtype=float32&graphs=off&compile=off&overlap=off&attention=math")
    fast = model(folder, "&dtype=float32&graphs=on&compile=off&overlap=on")
    for _ in range(2):  # recorded, then played
        for number in (None, 3):
            made, still = (np.concatenate(played(m, request(), number)) for m in (fast, plain))
            assert np.abs(made.astype(int) - still).max() <= 2
