"""What VBench's pre-flight says before anything runs: weights, packages and videos it lacks."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from sfbench import vbench_files as files
from sfbench.vbench import DIMENSIONS, SetupError
from sfbench.vbench_preflight import preflight

from vbench_fixtures import MUSIQ, fake_environment, folder, weight


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Variables under which this interpreter finds a fake vbench and its fake neighbours."""
    return fake_environment(tmp_path)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two videos that the fake package lists in reverse."""
    return folder(tmp_path / "videos", "a.mp4", "b.mp4")


def test_preflight_names_all_that_is_missing_and_what_can_run(
    env: dict[str, str], videos: Path
) -> None:
    weight(env, MUSIQ, 2_000_000)
    weight(env, "amt_model/amt-s.pth", 900)
    found = preflight(sys.executable, list(DIMENSIONS), videos, "custom_input", env)
    assert found.ready == ("temporal_flickering", "imaging_quality")
    text = "\n".join(found.lines())
    cache, home = env["VBENCH_CACHE_DIR"], env["HOME"]
    for line in (
        "temporal_flickering: ready",
        "scene: cannot run",
        f"  {cache}/amt_model/amt-s.pth has only 900 bytes; get it again (about 12 MB).",
        f"  {cache}/clip_model/ViT-B-32.pt is missing (about 354 MB); VBENCH_CACHE_DIR moves it.",
        f"  {home}/.cache/torch/hub/checkpoints/dino_vitbase16_pretrain.pth is missing",
        "  package clip is not installed there (openai-clip).",
        "  package detectron2 is not installed there",
        "  it needs vbench_standard: its questions belong to VBench's own prompts.",
    ):
        assert f"\n{line}" in text


def test_preflight_prints_nothing(
    env: dict[str, str], videos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    preflight(sys.executable, list(DIMENSIONS), videos, "custom_input", env)
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_is_not_a_torchscript_archive(env: dict[str, str]) -> None:
    path = weight(env, "clip_model/ViT-B-32.pt", 4_000_000)
    for member, fit in (("x/data.pkl", False), ("x/code/y.py", True)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"0" * 4_000_000)
        faults = files.weight_faults("background_consistency", env, set())
        assert (faults == []) is fit
    path.write_bytes(b"0" * 4_000_000)
    (fault,) = files.weight_faults("background_consistency", env, set())
    assert fault == f"{path} is not a TorchScript archive; get it again (about 354 MB)."


def test_a_file_that_a_package_ships_is_not_missed(env: dict[str, str]) -> None:
    assert len(files.weight_faults("temporal_style", env, set())) == 2
    (fault,) = files.weight_faults("temporal_style", env, {"clip"})
    assert "ViClip-InternVid" in fault


def test_preflight_judges_each_video(env: dict[str, str], tmp_path: Path) -> None:
    mixed = folder(tmp_path / "v", "two.mp4", frames=2)
    weight(env, MUSIQ, 2_000_000)
    names = ["temporal_flickering", "imaging_quality"]
    found = preflight(sys.executable, names, mixed, "custom_input", env)
    assert found.ready == ("temporal_flickering",)
    assert found.dimensions[1].faults == ("two.mp4 has 2 of the 3 frames that it needs.",)
    assert preflight(sys.executable, names, mixed, env=env, decode=False).ready == tuple(names)
    folder(mixed, "one.mp4", frames=1)
    assert preflight(sys.executable, names, mixed, "custom_input", env).ready == ()
    (mixed / "one.mp4").unlink()
    whole = (mixed / "two.mp4").read_bytes()
    (mixed / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (mixed / "loud.MP4").write_bytes(whole)
    (mixed / "note.txt").write_text("not looked at")
    found = preflight(sys.executable, names, mixed, "custom_input", env)
    assert found.ready == ()
    assert [fault.split()[0] for fault in found.faults] == ["loud.MP4", "cut.mp4"]


def test_preflight_counts_the_samples_of_the_standard(env: dict[str, str], tmp_path: Path) -> None:
    names = [f"a cat-{i}.mp4" for i in range(5)] + ["a dog-0.mp4"]
    videos = folder(tmp_path / "v", *names)
    found = preflight(sys.executable, ["temporal_flickering"], videos, "vbench_standard", env)
    assert found.lines()[1:] == ["temporal_flickering: ready; 1 of 2 prompts x 5 present"]
    folder(videos, "a cow-0.mp4")
    found = preflight(sys.executable, ["temporal_flickering"], videos, "vbench_standard", env)
    assert found.faults == ("Named after no prompt ({prompt}-0.mp4 to -4.mp4): a cow-0.mp4.",)
    Path(env["PYTHONPATH"], "vbench", "VBench_full_info.json").unlink()
    with pytest.raises(SetupError, match=r"prompt list .* is missing"):
        preflight(sys.executable, ["temporal_flickering"], videos, "vbench_standard", env)
