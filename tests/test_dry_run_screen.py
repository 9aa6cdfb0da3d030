"""The dry run's screen and JSON: the estimate, what is missing, and training that is refused."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sfbench import cli
from sfbench.reference import methods
from sfbench.reference.catalogue import presets
from sfbench.reference.config import ConfigError
from sfbench.reference.dry_run import show
from sfbench.reference.estimate import estimate
from sfbench.reference.machines import machine, missing
from sfbench.reference.recipes import load_preset

EVERY = pytest.mark.parametrize("name", sorted(presets()))


def screen(preset: str, method: str, width: int = 100, **wanted: Any) -> str:
    console = Console(width=width, highlight=False, record=True, file=io.StringIO())
    show(preset, method, console=console, **wanted)
    return console.export_text()


def test_the_screen_of_the_paper() -> None:
    text = screen("wan-1.3b", "self-forcing-dmd", gpus=64)
    for words in (
        "64 x h100 (80 GB, 989 TFLOP/s in bf16)",
        "an estimate, at 35% of peak; nothing was measured",
        "14,288,491,584",
        "833.33",
        "0.8333",
        "120 generator updates + 600 critic updates",
        "64 samples, 1 a GPU",
        "fits",
        "host    about 136 GB of a machine's memory while 8 processes load networks",
        "if kept",
        "GPUs: 64 wanted",
        "reference weights of row 'teacher': Wan2.1-T2V-14B",
        "weights of row 'ode': --method ode makes them",
    ):
        assert words in text, words
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


@EVERY
def test_all_rows_stand_on_one_screen(name: str) -> None:
    text = screen(name, "all", gpus=8)
    for row in load_preset(name).methods:
        assert row in text
    assert "PFLOP" in text or "GFLOP" in text or "MFLOP" in text


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["train-reference", *arguments])
        return int(stop.value.code or 0), *capsys.readouterr()

    dry = ("--dry-run", "--preset", "wan-1.3b", "--method", "self-forcing-dmd")
    code, out, _ = said(*dry, "--gpus", "64", "--json")
    told = json.loads(out)
    assert code == 0 and told["estimate"] is True and told["machine"]["gpus"] == 64
    assert told["rows"][0]["t"] == pytest.approx([1000, 937.5, 833.333, 625], rel=1e-5)
    assert told["rows"][0]["gpu_hours"] == pytest.approx(86, rel=0.05)
    assert any("Wan2.1-T2V-14B" in line for line in told["missing"])
    code, out, _ = said(*dry, "--gpu", "cpu", "--memory-gb", "7", "--tflops", "1", "--share", "0.5")
    assert code == 0 and "1 x cpu (7 GB, 1 TFLOP/s" in out and "does not fit" in out
    code, _, err = said(*dry, "--gpu", "a1000")
    assert code == 2 and "a100" in err and len(err.splitlines()) == 1
    code, _, err = said("--preset", "smoke", "--gpus", "2")
    assert code == 2 and "--gpus" in err and "--dry-run" in err
    code, _, err = said("--dry-run", "--method", "self-forcing")
    assert code == 2 and "self-forcing-dmd" in err
    code, _, err = said("--preset", "wan-1.3b", "--method", "self-forcing-dmd")
    assert code == 2 and len(err.splitlines()) == 1
    assert "row 'teacher' (Wan2.1-T2V-14B)" in err and "--dry-run" in err


def test_it_imports_no_torch() -> None:
    code = (
        "import sys\nfrom sfbench import cli\n"
        "try:\n    cli.main(['train-reference', '--dry-run', '--preset', 'wan-1.3b'])\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "numpy", "pandas", "scipy", "diffusers"}


def test_what_is_missing_goes_away_when_it_is_there(tmp_path: Path) -> None:
    preset = load_preset("smoke")
    here = machine(preset, "cpu")
    rows = [estimate(preset, "causvid", here)]
    absent = missing(preset, rows, here, tmp_path)
    assert [re.findall("row '(.*)'", line)[0] for line in absent] == [
        "codec",
        "diffusion-forcing",
        "teacher",
    ]
    (tmp_path / "weights").mkdir()
    for row in ("codec", "diffusion-forcing", "teacher"):
        (tmp_path / "weights" / f"smoke-{row}.safetensors").touch()
    assert missing(preset, rows, here, tmp_path) == []
    every = [estimate(preset, row, here) for row in preset.methods]
    assert missing(preset, every, here, tmp_path / "new") == []  # each makes what the next needs
    mine = load_preset("smoke", [f"data.dataset=folder:{tmp_path}/none", "text.kind=words"])
    assert any("nothing is at" in line for line in missing(mine, rows, here, tmp_path))
    (line,) = missing(load_preset("smoke", ["data.dataset=shapes-9"]), rows, here, tmp_path)
    assert line == "videos: Unknown dataset 'shapes-9'; did you mean shapes-2, shapes-1, shards?"


def test_a_package_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    preset = load_preset("wan-1.3b")
    here = machine(preset, "cpu")
    prompts_alone = missing(preset, [estimate(preset, "ode", here)], here, tmp_path)
    assert not any("diffusers, for" in line for line in prompts_alone)  # no clip is encoded
    absent = missing(preset, [estimate(preset, "teacher-forcing", here)], here, tmp_path)
    assert "package diffusers, for the codec: pip install 'sfbench[diffusers]'" in absent
    assert "package datasets, for shards of videos: pip install 'sfbench[shards]'" in absent
    assert "package torch, for all training: pip install sfbench" in absent


def test_training_with_weights_that_are_not_here_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"row 'base' \(Wan2.1-T2V-1.3B\)") as error:
        methods.ensure_known(load_preset("wan-1.3b"), "self-forcing-sid")
    assert "14B" not in str(error.value) and "\n" not in str(error.value)
    methods.ensure_known(load_preset("base"), "all")
