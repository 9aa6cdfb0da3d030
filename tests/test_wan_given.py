"""What training is given of Wan, as it is read: weights, text and VAE; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfbench import cli
from sfbench.reference import given, trainer
from sfbench.reference.checkpoint import CheckpointError, load_weights
from sfbench.reference.codec import frames_of
from sfbench.reference.config import ConfigError
from sfbench.reference.data import LatentPool, Pool
from sfbench.reference.distributed import World
from sfbench.reference.methods import build
from sfbench.reference.objectives import CPU
from sfbench.reference.text_rows import TextRows
from sfbench.reference.trained import Library

from wan_fixtures import CHANNELS, TEXT, transformer
from wan_training_fixtures import PROMPTS, folders, gave, larger, preset, prompts, train


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("home"))


# --- what is read ---------------------------------------------------------------------------------


@torch.no_grad()
def test_networks_are_the_given_ones(home: Path, tmp_path: Path) -> None:
    """The student starts as the base, the critic too, and the teacher is the larger one."""
    config = preset(home, "methods.self-forcing-dmd.init=base")
    hashes = {row: config.contents[row] for row in ("base", "teacher")}
    library = Library(config.name, tmp_path, hashes)
    made: Any = build(config, "self-forcing-dmd", library, tmp_path, lambda text: None)
    x = torch.randn(2, 4, CHANNELS, 4, 4, generator=torch.Generator().manual_seed(1))
    sigma, text = torch.tensor([[0.9], [0.35]]), made.draw.text(PROMPTS[:2])
    for net, theirs in (
        (made.generator, transformer()),
        (made.critic, transformer()),
        (made.teacher.float(), larger()),
    ):
        v = theirs(x.movedim(1, 2), 1000 * sigma[:, 0], text).sample.movedim(1, 2)
        own = (x - net(x, sigma, text)) / sigma[..., None, None, None]
        torch.testing.assert_close(own, v, rtol=0, atol=1e-4)


def test_a_teacher_in_half_precision_stays_in_its_file_until_it_is_used(home: Path) -> None:
    config = preset(home)
    net = given.network(config.of("teacher"), "teacher", trained=False)
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}
    copied = given.network(config.of("teacher"), "teacher", trained=True)
    assert {p.dtype for p in copied.parameters()} == {torch.float32}
    World().settle(net)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    for one, other in zip(net.parameters(), copied.parameters(), strict=True):
        assert torch.equal(one, other)


def test_text_is_kept_without_padding_and_is_what_the_encoder_says(
    home: Path, tmp_path: Path
) -> None:
    config = preset(home)
    texts = Pool(config.data).texts()
    assert texts == sorted({"", *PROMPTS})
    asked = []

    def encoder() -> Any:
        asked.append(1)
        return given.text(config, CPU)

    rows = TextRows.open(texts, config.text, "e" * 64, encoder, tmp_path)
    theirs = given.text(config, CPU)(PROMPTS)
    torch.testing.assert_close(rows(PROMPTS), theirs, rtol=8e-3, atol=1e-3)
    counts = [min(12, len(text.split()) + 1) for text in texts]  # and the end of text
    assert rows.rows.shape == (sum(counts), TEXT) and rows.rows.dtype == np.int16
    assert rows([""])[0, 1:].abs().max() == 0 and rows([""])[0, 0].abs().max() > 0
    with torch.device("meta"):  # as if a GPU were where tensors are made
        assert torch.equal(rows(PROMPTS), rows(PROMPTS[:4]))
    again = TextRows.open(texts, config.text, "e" * 64, encoder, tmp_path)
    assert len(asked) == 1 and torch.equal(again(PROMPTS), rows(PROMPTS))
    TextRows.open(texts[1:], config.text, "e" * 64, encoder, tmp_path)  # other prompts, other file
    TextRows.open(texts, config.text, "f" * 64, encoder, tmp_path)  # and so another encoder
    assert len(asked) == 3 and len(list(tmp_path.iterdir())) == 6


def test_clips_are_encoded_from_their_first_frame_on(home: Path, tmp_path: Path) -> None:
    """F latent frames of 4 F - 3 pixel frames; a row that reads clips is trained on them."""
    clips = ("data.dataset=shapes-1", "data.clips=3")
    made = train(home, tmp_path, "teacher-forcing", *clips)
    assert load_weights(made)[1]["made_elsewhere"].keys() == {"base", "codec", "text"}
    (path,) = (tmp_path / "cache").glob("latents-*.npy")
    kept = np.load(path)
    assert kept.shape == (3, 4, CHANNELS, 4, 4)
    config = preset(home, *clips, row="teacher-forcing")
    pool = Pool(config.data, temporal=4)
    assert pool.length == frames_of(4, 4) == 13
    codec = given.codec(config, CPU)
    whole = codec.encode(pool.pixels([(2, 0)], 13))[0]
    torch.testing.assert_close(torch.from_numpy(kept[2]).float(), whole, rtol=2e-3, atol=2e-3)
    assert LatentPool(pool, kept).clips([(1, 0)]).shape == (1, 4, CHANNELS, 4, 4)


# --- what is refused, and what is found -----------------------------------------------------------


def refused(home: Path, method: str, *overrides: str, pairs: list[str]) -> str:
    with pytest.raises((ConfigError, CheckpointError)) as error:
        trainer.train(str(home / "tiny.yaml"), method, [*overrides], home / "no", given=pairs)
    text = str(error.value)
    assert "\n" not in text and not (home / "no").exists()
    return text


def test_what_is_refused_before_anything_is_made(home: Path, tmp_path: Path) -> None:
    words, both = prompts(home), gave(home)
    assert "row 'teacher' (Larger)" in refused(home, "self-forcing-dmd", words, pairs=both[:1])
    assert "--given teacher=PATH" in refused(home, "self-forcing-dmd", words, pairs=both[:1])
    swapped = [both[0], f"teacher={home / 'base'}"]
    text = refused(home, "self-forcing-dmd", words, pairs=swapped)
    assert "ffn_dim 44, not 52, layers 2, not 3" in text and "--given teacher=PATH" in text
    bare = [f"base={home / 'larger'}"]
    assert "has no text_encoder" in refused(home, "ode", words, pairs=bare)
    given_text = [*bare, f"text={home / 'base'}"]
    assert "layers 3, not 2" in refused(home, "ode", words, pairs=given_text)
    wider = shutil.copytree(home / "base", tmp_path / "wider") / "text_encoder/config.json"
    wider.write_text(json.dumps(json.loads(wider.read_text()) | {"d_model": 16}))
    other = [both[0], f"text={tmp_path / 'wider'}"]
    text = refused(home, "ode", words, pairs=other)
    assert "has d_model 16, and preset 'tiny' takes 10" in text and "--given text=FOLDER" in text
    pickled = tmp_path / "sf.pt"
    pickled.touch()
    file = [f"base={pickled}", f"text={home / 'base'}"]
    assert "convert-wan" in refused(home, "ode", words, pairs=file)
    text = refused(home, "teacher-forcing", words, pairs=both)
    assert "learns from true clips" in text and "has prompts alone" in text
    assert "learns from true clips" in refused(
        home, "self-forcing-dmd", words, "methods.self-forcing-dmd.anchor=0.1", pairs=both
    )
    assert "is not trained" in refused(home, "base", words, pairs=both)
    watched = "methods.ode.evaluate_every=1"
    assert "on prompts alone is not evaluated" in refused(home, "ode", words, watched, pairs=both)
    long = refused(home, "ode", words, "data.clip_frames=8", pairs=both)
    assert "data.clip_frames must be data.frames" in long
    gone = f"data.dataset=prompts:{tmp_path}/none.txt"
    with pytest.raises(ValueError, match="There is no file"):
        trainer.train(str(home / "tiny.yaml"), "ode", [gone], home / "no", given=both)


def test_the_dry_run_says_what_is_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dry = ["train-reference", "--dry-run", "--preset", str(home / "tiny.yaml")]
    rest = ["--method", "self-forcing-dmd", "--set", prompts(home), "--out", str(home / "out-dry")]
    with pytest.raises(SystemExit):
        cli.main([*dry, *rest, "--given", gave(home)[0], "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["found"] == [
        f"row 'base' (Tiny): {home / 'base'}",
        f"the text encoder (Wan2.1's UMT5): {home / 'base'}",
    ]
    assert told["missing"] == [
        "reference weights of row 'teacher': Larger; --given teacher=PATH",
        "weights of row 'ode': --method ode makes them",
    ]
