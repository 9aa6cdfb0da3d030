"""`sfbench doctor --model wan:...` says what is missing, and the command that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Child

from sfbench import doctor
from sfbench.reference import wan_doctor
from sfbench.reference.wan_convert import VAE

from wan_fixtures import transformer


def found(name: str) -> dict[str, tuple[str, str, str]]:
    """Verdict, text and fix of each row."""
    rows = [doctor.isolated(row, check) for row, check in doctor.of_model(name).items()]
    return {row.name.removeprefix("wan "): (row.verdict, row.text, row.fix) for row in rows}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A transformer, and two more parts by name."""
    transformer().save_pretrained(tmp_path / "transformer")
    for part in ("text_encoder", "tokenizer"):
        (tmp_path / part).mkdir()
    return tmp_path


def test_each_part_is_told(folder: Path) -> None:
    rows = found(f"wan:{folder}")
    assert (
        rows["transformer"][0] == "ok" and "2 layers 60 wide, in 1 file" in rows["transformer"][1]
    )
    assert rows["tokenizer"][0] == rows["text_encoder"][0] == "ok"
    assert rows["vae"][0] == "fail" and "base=FOLDER" in rows["vae"][2]
    (folder / VAE).touch()
    verdict, text, fix = found(f"wan:{folder}")["vae"]
    assert verdict == "fail" and "official form" in text
    assert fix == f"sfbench convert-wan {folder} --out {folder.name}-diffusers"
    (folder / "vae").mkdir()
    assert found(f"wan:{folder}")["vae"][0] == "ok"


def test_what_a_base_has_is_not_missed(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    transformer().save_pretrained(alone)
    assert found(f"wan:{alone}")["tokenizer"][0] == "fail"
    assert found(f"wan:{alone}?base={folder}")["tokenizer"][0] == "ok"


def test_tensors_that_do_not_fit_are_listed(folder: Path) -> None:
    state = transformer()
    del state.proj_out.bias
    state.save_pretrained(folder / "transformer")
    verdict, text, _ = found(f"wan:{folder}")["transformer"]
    assert verdict == "fail" and "1 missing: head.head.bias" in text


def test_no_folder_at_all_is_one_row(tmp_path: Path) -> None:
    rows = found(f"wan:{tmp_path / 'none'}")
    assert list(rows) == ["transformer"] and "is no Wan folder" in rows["transformer"][1]


@pytest.mark.parametrize(
    ("free", "verdict"), [(None, "ok"), (40e9, "ok"), (10e9, "warn"), (5e9, "fail")]
)
def test_memory_is_told_before_it_is_taken(
    free: float | None, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wan_doctor, "free_memory", lambda: free)
    said, text, _ = found("wan:random-1.3b?device=cpu&dtype=bfloat16&window=21")["memory"]
    assert said == verdict
    # The published figures: 2.84 GB of weights, 6.04 GB of keys and values of 21 frames.
    assert "weights 2.8 GB and 21 frames of 832x480 in the cache 6 GB as bfloat16" in text


@pytest.mark.parametrize(("free", "verdict"), [(24e9, "ok"), (13e9, "warn"), (10e9, "fail")])
def test_on_a_gpu_the_text_encoder_counts_too(
    free: float, verdict: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "text_encoder" / "model.safetensors").open("wb") as file:
        file.truncate(11_400_000_000)  # a file of holes
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(free), 0))
    said, text, _ = found(f"wan:{folder}?device=cuda&window=3&chunk=1")["memory"]
    assert said == verdict and "while a prompt is encoded UMT5 11 GB" in text


def test_8_bits_are_beside_the_weights_that_they_are_made_of() -> None:
    sizes = [
        found(f"wan:random-1.3b?device=cpu&dtype={dtype}")["memory"][1].split()[1]
        for dtype in ("bfloat16", "float8")
    ]
    assert float(sizes[1]) == pytest.approx(1.5 * float(sizes[0]), rel=0.05)


def test_another_model_loads_or_says_why() -> None:
    assert found("cheat:frozen")["model"][0] == "ok"
    verdict, text, _ = found("cheat:frozn")["model"]
    assert verdict == "fail" and "did you mean frozen" in text


def test_the_command(sfbench: Child, folder: Path) -> None:
    done = sfbench("doctor", "--model", f"wan:{folder}", "--json")
    assert done.returncode == 1 and '"wan vae"' in done.stdout
