"""A file of prompts as what is trained on: its lines, its name by content, and what it has not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sfbench import cli
from sfbench.prompt_file import PromptFile, PromptFileError
from sfbench.reference.config import ConfigError, DataConfig
from sfbench.reference.data import LatentPool, Pool, recognised
from sfbench.reference.elsewhere import refusal
from sfbench.reference.methods import build
from sfbench.reference.recipes import load_preset, recipe_hash
from sfbench.reference.trained import Library
from sfbench.registry import load_dataset
from sfbench.schema import SceneRef


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa  red disc \r\n\n  \na käfer\u2028on glass\na blue disc".encode())
    return path


def test_a_prompt_a_line(file: Path) -> None:
    name = f"prompts:{file}"
    made = load_dataset(name)(name, (48, 32), 16.0)
    assert isinstance(made, PromptFile) and made.shape == (48, 32)
    assert made.prompts == ["a red disc", "a käfer on glass", "a blue disc"]
    pool = Pool(DataConfig(dataset=name, clips=2, frames=4, clip_frames=4))
    assert pool.count == 3  # all of them: data.clips is of clips
    windows = pool.windows(0, 0, range(64))
    assert {clip for clip, _ in windows} == {0, 1, 2} and {start for _, start in windows} == {0}
    assert pool.texts() == ["", "a blue disc", "a käfer on glass", "a red disc"]


def test_its_name_is_its_content(file: Path, tmp_path: Path) -> None:
    def told(path: Path) -> DataConfig:
        return recognised(DataConfig(dataset=f"prompts:{path}"))

    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy/others.txt"
    copy.write_bytes(file.read_bytes() + b"\n\n")
    assert told(file).by_content() == told(copy).by_content()
    copy.write_text("a red disc")
    assert told(file).content != told(copy).content
    assert str(tmp_path) not in told(file).by_content().dataset
    preset = load_preset("smoke")
    recipes = [replace(preset, data=told(path)) for path in (file, copy, file)]
    one, other, again = (recipe_hash(recipe, "self-forcing-dmd") for recipe in recipes)
    assert one == again != other


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "There is no file"), (b" \n\n", "holds no prompt"), (b"\xff\xfe\xff", "in UTF-8")],
)
def test_what_is_no_file_of_prompts(content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(PromptFileError, match=said):
        PromptFile(f"prompts:{tmp_path}/x.txt")


def test_there_are_no_videos_in_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, ref = PromptFile(f"prompts:{file}"), SceneRef(dataset="d", split="train", index=0)
    for ask in (lambda: made.clip(ref, 1), lambda: made.of_split("train")):
        with pytest.raises(
            PromptFileError, match=r"prompts and no videos; name videos with folder"
        ):
            ask()
    with pytest.raises(SystemExit) as stop:
        asked = ("--dataset", f"prompts:{file}", "--model", "cheat:noise", "--dry-run")
        cli.main(["run", "--task", "video-exposure", *asked])
    assert stop.value.code == 2 and "prompts and no videos" in capsys.readouterr().err


def test_which_rows_need_no_clips(file: Path) -> None:
    preset = load_preset("smoke", [f"data.dataset=prompts:{file}", "text.kind=words"])
    refused = {row for row in preset.methods if "learns from true clips" in refusal(preset, row)}
    taught = {"ode", "self-forcing-dmd", "self-forcing-sid", "bidirectional-dmd"}
    assert refused == preset.methods.keys() - taught and "codec" in refused
    row = "methods.self-forcing-dmd"
    for extra in (f"{row}.anchor=0.1", f"{row}.gan.weight=0.1"):
        preset = load_preset("smoke", [f"data.dataset=prompts:{file}", extra])
        assert "learns from true clips" in refusal(preset, "self-forcing-dmd")


def test_a_row_that_reads_no_clips_encodes_none(tmp_path: Path) -> None:
    """Also of videos; and a latent that is asked for all the same is an error."""
    row = "self-forcing-sid"
    preset = load_preset("smoke", ["data.clips=4"])
    random = replace(preset.method(row), init="", critic_init="", teacher="")
    preset = replace(preset, methods=preset.methods | {row: random})
    made = build(preset, row, Library("smoke", tmp_path), tmp_path / "cache", lambda text: None)
    assert made.draw is not None and not (tmp_path / "cache").exists()
    for player in ("generator", "critic"):
        assert made.loss(player, 0)[0].isfinite()
    with pytest.raises(AssertionError, match="reads no clips"):
        _ = made.draw.batch(0).latents
    assert isinstance(made.draw.pool, LatentPool)


def test_words_of_the_world_are_not_those_of_a_file(file: Path, tmp_path: Path) -> None:
    preset = load_preset("smoke", [f"data.dataset=prompts:{file}"])
    preset = replace(preset, data=recognised(preset.data))
    with pytest.raises(ConfigError, match=r"knows the words of the embedded world alone"):
        build(preset, "ode", Library("smoke", tmp_path), tmp_path, lambda text: None)
