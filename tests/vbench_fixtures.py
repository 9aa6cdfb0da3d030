"""A fake environment of VBench: the package, its neighbours, its weights; and videos for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from sfbench.video import write_clip

VBENCH = """
import json, os, signal, socket, subprocess, sys
from pathlib import Path

FAULT = os.environ["FAULT"]
URL = "https://example.org/weights.pth"

class VBench:
    def __init__(self, device, info, out):
        self.out = Path(out)
        self.out.mkdir()
        assert Path(info).is_file() and device == "cpu"

    def evaluate(self, videos_path, name, prompt_list, dimension_list, local, mode, **others):
        print("much", file=sys.stdout)
        print("10%|#   | 1/9\\r20%|##  | 2/9", file=sys.stderr)
        (dimension,) = dimension_list
        assert local and os.environ["VBENCH_CACHE_DIR"] and os.environ["TORCH_HOME"]
        if FAULT == "raise":
            raise AssertionError("out of luck")
        if FAULT == "tool":
            subprocess.run(["wget", URL, "-P", "x"], check=True)
        if FAULT == "clone":
            subprocess.run(["git", "clone", URL, "x"], check=True)
        if FAULT == "name":
            socket.create_connection(("example.org", 80))
        if FAULT == "address":
            socket.socket().connect(("192.0.2.1", 80))
        if FAULT == "pickle":
            raise RuntimeError("see torch.load about weights_only https://example.org")
        if FAULT == "silent":
            os._exit(0)
        if FAULT == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if FAULT == "hangs":
            signal.pause()
        videos = sorted(os.listdir(videos_path), reverse=True)
        score = 70.0 if dimension == "imaging_quality" else 0.75
        if FAULT == "prompts":
            score = {"b": 0.25}.get(prompt_list["b.mp4"], 0.0)
        rows = [{"video_path": f"{videos_path}/{v}", "video_results": score} for v in videos]
        mean = 0.70 if dimension == "imaging_quality" else score
        if FAULT == "nan":
            rows[0]["video_results"] = mean = float("nan")
        if FAULT == "mean":
            mean = float("nan")
        if FAULT == "drop":
            rows.pop()
        if FAULT == "empty":
            rows = []
        if FAULT == "stranger":
            rows.append({"video_path": "z.mp4", "video_results": 0.5})
        if FAULT == "range":
            rows[0]["video_results"] = 98.5
        (self.out / f"{name}_eval_results.json").write_text(json.dumps({dimension: [mean, rows]}))
"""

TORCHVISION = """
import torch
missing = [name for name in ("nms", "qnms") if name not in torch.library.declared]
if missing:
    raise RuntimeError(f"operator torchvision::{missing[0]} does not exist")
"""

TORCH = """
class library:
    declared = []

    class Library:
        def __init__(self, name, kind):
            assert (name, kind) == ("torchvision", "DEF")

        def define(self, text):
            library.declared.append(text.partition("(")[0])

def device(name):
    return name
"""

PROMPTS = [
    {"prompt_en": "a cat", "dimension": ["temporal_flickering", "color"]},
    {"prompt_en": "a dog", "dimension": ["temporal_flickering"]},
]
MUSIQ = "pyiqa_model/musiq_spaq_ckpt-358bb6af.pth"


def fake_environment(tmp_path: Path) -> dict[str, str]:
    """Variables under which this interpreter finds a fake vbench and its fake neighbours."""
    site = tmp_path / "site"
    (site / "vbench").mkdir(parents=True)
    (site / "vbench" / "__init__.py").write_text(VBENCH)
    (site / "vbench" / "VBench_full_info.json").write_text(json.dumps(PROMPTS))
    (site / "torch.py").write_text(TORCH)
    (site / "torchvision.py").write_text(TORCHVISION)
    for name in ("decord", "cv2", "PIL", "numpy", "tqdm", "pyiqa", "omegaconf", "fvcore"):
        (site / f"{name}.py").write_text("")
    return {
        "PYTHONPATH": str(site),
        "HOME": str(tmp_path / "home"),
        "VBENCH_CACHE_DIR": str(tmp_path / "cache"),
        "FAULT": "",
    }


def folder(path: Path, *names: str, frames: int = 3) -> Path:
    path.mkdir(exist_ok=True)
    for name in names:
        write_clip(path / name, np.zeros((frames, 16, 16, 3), np.uint8), 8)
    return path


def weight(env: dict[str, str], name: str, size: int) -> Path:
    path = Path(env["VBENCH_CACHE_DIR"], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.truncate(path, size)
    return path
