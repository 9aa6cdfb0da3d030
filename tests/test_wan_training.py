"""Training that starts from Wan's weights, on tiny random ones: what is read is what is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sfbench import cli
from sfbench.models import ModelError, resolve
from sfbench.reference import given, trainer, wan_doctor
from sfbench.reference.checkpoint import load_weights
from sfbench.reference.recipes import from_dict, load_preset, recipe_hash
from sfbench.reference.run import NotResumed
from sfbench.schema import Geometry, Prompt, Request

from test_distributed import finish, start
from wan_training_fixtures import PROMPTS, folders, gave, preset, prompts, train


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("home"))


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


def test_all_rows_but_the_given_ones_are_trained(home: Path, tmp_path: Path) -> None:
    clips = ["data.dataset=shapes-1", "data.clips=2", "methods.ode.pairs=1"]
    clips += [f"methods.{row}.steps=1" for row in ("ode", "teacher-forcing", "self-forcing-dmd")]
    made = trainer.train(str(home / "tiny.yaml"), "all", clips, tmp_path, given=gave(home))
    assert {path.stem for path in made} == {
        "tiny-ode",
        "tiny-teacher-forcing",
        "tiny-self-forcing-dmd",
    }


# --- what is given --------------------------------------------------------------------------------


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
