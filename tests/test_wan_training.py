"""Training that starts from Wan's weights, on tiny random ones: what is read is what is trained."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from sfbench import cli
from sfbench.models import ModelError, resolve
from sfbench.reference import given, trainer, wan_doctor
from sfbench.reference.checkpoint import CheckpointError, load_weights
from sfbench.reference.codec import frames_of
from sfbench.reference.config import ConfigError, Preset
from sfbench.reference.data import LatentPool, Pool, recognised
from sfbench.reference.distributed import World
from sfbench.reference.methods import build
from sfbench.reference.objectives import CPU
from sfbench.reference.recipes import from_dict, load_preset, recipe_hash
from sfbench.reference.run import NotResumed
from sfbench.reference.text_rows import TextRows
from sfbench.reference.trained import Library
from sfbench.schema import Geometry, Prompt, Request

from test_distributed import finish, start
from wan_fixtures import CHANNELS, TEXT, text_encoder, tokenizer, transformer, vae

PROMPTS = [
    "a red disc moves slowly on dark",
    "the blue square moves",
    "the red square on light moves slowly on the dark disc on the blue light",  # is cut
    "a blue disc",
]
STUDENT = {
    "batch": 4,
    "warmup": 1,
    "decay": "constant",
    "drop_text": 0.0,
    "sampler": {"kind": "renoise", "few": [1000, 500], "shift": 5},
}
PRESET: dict[str, Any] = {
    "data": {"size": 32, "fps": 16, "frames": 4, "clip_frames": 4, "clips": 6},
    "codec": {"kind": "wan", "channels": CHANNELS},
    "text": {"kind": "umt5", "length": 12, "dim": TEXT},
    "model": {
        **{"dim": 60, "ffn_dim": 44, "layers": 2, "heads": 3, "patch": 2, "freq_dim": 32},
        **{"rope_theta": 10000, "prediction": "v", "positions": "absolute"},
        **{"frames_per_chunk": 2, "window": 0},
    },
    "engine": {"micro_batch": 2},
    "methods": {
        "base": {"method": "teacher", "given": "Tiny"},
        "teacher": {"given": "Larger", "model": {"layers": 3, "ffn_dim": 52}},
        "ode": STUDENT
        | {"init": "base", "teacher": "base", "steps": 2, "pairs": 4, "teacher_steps": 4},
        "teacher-forcing": {"init": "base", "steps": 2, "batch": 4, "warmup": 1},
        "self-forcing-dmd": STUDENT
        | {
            **{"init": "ode", "critic_init": "base", "teacher": "teacher", "steps": 2},
            **{"critic_warmup": 0, "critic_ratio": 1, "real_guidance": 3.0, "lr": 1e-4},
        },
    },
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Wan folders, one without the parts; prompts; and a preset."""
    path = tmp_path_factory.mktemp("home")
    for name, part in {
        "transformer": transformer(),
        "vae": vae(),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
    }.items():
        part.save_pretrained(path / "base" / name)
    # As an official folder: no parts; and in half precision, as large weights are handed around.
    torch.nn.Module.to(larger(), torch.bfloat16).save_pretrained(path / "larger")
    (path / "prompts.txt").write_text("\n".join(["", *PROMPTS, PROMPTS[0]]) + "\n")
    (path / "tiny.yaml").write_text(yaml.safe_dump(PRESET))
    return path


def gave(home: Path, base: str = "base") -> list[str]:
    return [f"base={home / base}", f"teacher={home / 'larger'}"]


def larger() -> Any:
    """What is given as the teacher: weights that bfloat16 holds."""
    made = transformer(num_layers=3, ffn_dim=52)
    for parameter in made.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return made


def prompts(home: Path) -> str:
    return f"data.dataset=prompts:{home / 'prompts.txt'}"


def preset(home: Path, *overrides: str, row: str = "self-forcing-dmd") -> Preset:
    """With its hashes, as it is when networks are built."""
    config = load_preset(str(home / "tiny.yaml"), [prompts(home), *overrides], gave(home))
    config = replace(config, data=recognised(config.data))
    return replace(config, contents=given.contents(config, [row]))


def train(home: Path, out: Path, method: str, *overrides: str, **how: Any) -> Path:
    recipe = str(home / "tiny.yaml")
    how = {"given": gave(home)} | how
    (made,) = trainer.train(recipe, method, [prompts(home), *overrides], out, **how)
    return made


@pytest.fixture(scope="module")
def trained(home: Path) -> Path:
    """The chain of the paper, by the command line: trajectories of the base, then Self Forcing."""
    names = [word for pair in gave(home) for word in ("--given", pair)]
    every = ["--preset", str(home / "tiny.yaml"), "--set", prompts(home), *names]
    with pytest.MonkeyPatch.context() as often:
        often.setattr(trainer, "CHECKPOINT_EVERY", 1)
        for method in ("ode", "self-forcing-dmd"):
            rest = ["--method", method, "--out", str(home / "out")]
            with pytest.raises(SystemExit) as stop:
                cli.main(["train-reference", *every, *rest])
            assert not stop.value.code
    return home / "out/weights/tiny-self-forcing-dmd.safetensors"


# --- the chain ------------------------------------------------------------------------------------


def test_prompts_are_enough_and_no_clip_is_read(trained: Path) -> None:
    kept = sorted(path.name.partition("-")[0] for path in (trained.parents[1] / "cache").iterdir())
    assert kept == ["text", "text", "trajectories"]
    tensors, card = load_weights(trained)
    base, _ = load_weights(trained.with_name("tiny-ode.safetensors"))
    assert all(torch.isfinite(t).all() for t in tensors.values())
    assert any(not torch.equal(t, base[name]) for name, t in tensors.items())
    assert card["ancestors"].keys() == {"base", "ode", "teacher"}


def test_the_card_names_what_was_given_by_content_alone(trained: Path, home: Path) -> None:
    _, card = load_weights(trained)
    text = trained.with_suffix(".json").read_text()
    assert str(home) not in text
    made = card["made_elsewhere"]
    assert {name: part["whose"] for name, part in made.items()} == {
        "base": "Tiny",
        "teacher": "Larger",
        "text": "Wan2.1's UMT5",
    }
    assert card["preset"]["contents"] == {name: part["sha256"] for name, part in made.items()}
    assert resolve(f"wan:{home / 'base'}").card.weights_sha256 == made["base"]["sha256"]
    assert recipe_hash(from_dict(card["preset"]), "self-forcing-dmd") == card["recipe"]


def test_what_was_trained_runs_as_wan_with_the_options_of_its_recipe(
    trained: Path, home: Path
) -> None:
    model = resolve(f"wan:{trained}?base={home / 'base'}")
    card = model.card
    assert (card.chunk, card.steps) == (8, 2)
    assert card.weights_sha256 == load_weights(trained)[1]["sha256"]
    shape = Geometry(frames=13, height=32, width=32, fps=16)
    request = Request(prompt=Prompt(id="p", text=PROMPTS[0]), geometry=shape, seed=0)
    made = np.concatenate([*model.generate(request)])
    assert made.shape == (13, 32, 32, 3) and made.std() > 2
    before = resolve(f"wan:{home / 'base'}?chunk=2&steps=2&window=4&positions=absolute")
    assert not np.array_equal(made, np.concatenate([*before.generate(request)]))
    other = resolve(f"wan:{trained}?base={home / 'base'}&chunk=1&steps=3")
    assert (other.card.chunk, other.card.steps) == (4, 3)


def test_the_doctor_knows_what_was_trained(trained: Path, home: Path) -> None:
    rows = wan_doctor.checks(f"{trained}?base={home / 'base'}")
    found = {name: check() for name, check in rows.items()}
    assert {verdict for verdict, _, _ in found.values()} == {"ok"}
    assert "2 layers 60 wide, in 1 file" in found["wan transformer"][1]


def test_it_is_not_run_without_the_vae(trained: Path) -> None:
    assert load_weights(trained)[1]["run_as"] == f"wan:{trained.name}?base=FOLDER"
    with pytest.raises(ModelError, match=r"run it as wan:.*\?base=FOLDER"):
        resolve(f"reference:{trained}")


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


def test_a_file_alone_is_given_as_well_as_its_folder(home: Path, trained: Path) -> None:
    """Nothing beside it says how many heads it has; a file that was trained here has a card."""
    file = home / "base/transformer/diffusion_pytorch_model.safetensors"
    nets = []
    for path in (file, home / "base", trained):
        pairs = [f"base={path}", f"text={home / 'base'}"]
        config = load_preset(str(home / "tiny.yaml"), [prompts(home)], pairs)
        given.ensure_fitting(config, ["ode"])
        nets.append(given.network(config, "base", trained=True).state_dict())
    assert all(torch.equal(nets[0][name], tensor) for name, tensor in nets[1].items())
    student = load_weights(trained)[0]
    assert all(torch.equal(student[name], tensor) for name, tensor in nets[2].items())


def test_training_leaves_the_given_files_as_they_are(trained: Path, home: Path) -> None:
    _, card = load_weights(trained)
    config = preset(home)
    assert card["preset"]["contents"] == given.contents(config, ["self-forcing-dmd"])


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


# --- resuming -------------------------------------------------------------------------------------


def test_a_resumed_run_is_the_same_and_other_weights_are_refused(
    home: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(trained.parents[1], out)
    shutil.rmtree(out / "self-forcing-dmd/step-00000002")
    shutil.move(home / "base", tmp_path / "moved")  # where they lie does not matter
    try:
        pairs = [f"base={tmp_path / 'moved'}", gave(home)[1]]
        again = train(home, out, "self-forcing-dmd", resume=True, given=pairs)
        assert load_weights(again)[1]["sha256"] == load_weights(trained)[1]["sha256"]
    finally:
        shutil.move(tmp_path / "moved", home / "base")
    shutil.copytree(home / "larger", tmp_path / "other")
    (file,) = (tmp_path / "other").glob("*.safetensors")
    tensors = load_file(file)
    tensors["proj_out.bias"] += 1
    save_file(tensors, file)
    pairs = [gave(home)[0], f"teacher={tmp_path / 'other'}"]
    shutil.rmtree(out / "cache")
    with pytest.raises(NotResumed, match="another recipe"):
        train(home, out, "self-forcing-dmd", resume=True, given=pairs)
    assert not (out / "cache").exists()  # nothing was encoded before it was refused


# --- processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [{}, {"sharding": "shard"}], ids=["replicate", "shard"])
def test_two_processes_take_the_steps_of_one(
    engine: dict[str, str], home: Path, trained: Path, tmp_path: Path
) -> None:
    """From nothing on disk: one of them encodes the text, and both read it."""
    (tmp_path / "weights").mkdir()
    for suffix in (".safetensors", ".json"):
        shutil.copy(trained.with_name(f"tiny-ode{suffix}"), tmp_path / "weights")
    finish(start(2, "wan", tmp_path, str(home), engine))
    two, one = (
        [
            json.loads(line)
            for line in (out / "self-forcing-dmd/train.jsonl").read_text().splitlines()
        ]
        for out in (tmp_path, trained.parents[1])
    )
    for name, value in one[-1].items():
        if name != "seconds":
            assert two[-1][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    assert len(list((tmp_path / "cache").glob("text-*"))) == 2


# --- what is refused ------------------------------------------------------------------------------


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


def test_all_rows_but_the_given_ones_are_trained(home: Path, tmp_path: Path) -> None:
    clips = ["data.dataset=shapes-1", "data.clips=2", "methods.ode.pairs=1"]
    clips += [f"methods.{row}.steps=1" for row in ("ode", "teacher-forcing", "self-forcing-dmd")]
    made = trainer.train(str(home / "tiny.yaml"), "all", clips, tmp_path, given=gave(home))
    assert {path.stem for path in made} == {
        "tiny-ode",
        "tiny-teacher-forcing",
        "tiny-self-forcing-dmd",
    }


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
