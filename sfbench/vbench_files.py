"""The files and packages that each VBench dimension loads, as data, and where they lie.

Paths are those of vbench 0.1.5 with ``local=True``. Sizes are what is known of the published files;
left to itself the package downloads what is missing while it loads.
"""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from .schema import Base
from .vbench import SetupError, known

Root = Literal["VBENCH_CACHE_DIR", "TORCH_HOME", "HF_HOME"]

LEAST_SHARE = 100
"""A file smaller than one part in this many of its known size is no checkpoint: an error page."""


class Weight(Base):
    """A file that a dimension loads."""

    path: str
    """Below its root; ``*`` stands for any one folder."""
    root: Root = "VBENCH_CACHE_DIR"
    """The environment variable that moves it."""
    size: int | None = None
    """About so many bytes."""
    source: str = ""
    """What to say where no size is known."""
    sha256: str = ""
    """What the published file's hash begins with, as its address tells; empty: not known."""
    script: bool = False
    """It must be a TorchScript archive; ``clip.load`` takes no other."""
    inside: tuple[str, str] | None = None
    """``(package, file)``: a package that ships it, so that the worker can copy it."""


_CLIP_B = Weight(
    path="clip_model/ViT-B-32.pt",
    size=354_000_000,
    sha256="40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    script=True,
)
_VICLIP = (
    Weight(path="ViCLIP/ViClip-InternVid-10M-FLT.pth", size=1_700_000_000),
    Weight(
        path="ViCLIP/bpe_simple_vocab_16e6.txt.gz",
        size=1_356_917,
        inside=("clip", "bpe_simple_vocab_16e6.txt.gz"),
    ),
)
_GRIT = (Weight(path="grit_model/grit_b_densecap_objectdet.pth"),)
_BERT = "hub/models--bert-base-uncased/snapshots/*/"

WEIGHTS: dict[str, tuple[Weight, ...]] = {
    "temporal_flickering": (),
    "subject_consistency": (
        Weight(
            path="dino_model/facebookresearch_dino_main/hubconf.py",
            source="a clone of github.com/facebookresearch/dino",
        ),
        Weight(path="dino_model/dino_vitbase16_pretrain.pth", size=343_000_000),
        # its hubconf.py ignores the copy above, which VBench looks for, and loads this one
        Weight(
            path="hub/checkpoints/dino_vitbase16_pretrain.pth",
            root="TORCH_HOME",
            size=343_000_000,
        ),
    ),
    "background_consistency": (_CLIP_B,),
    "motion_smoothness": (Weight(path="amt_model/amt-s.pth", size=12_000_000),),
    "dynamic_degree": (Weight(path="raft_model/models/raft-things.pth", size=21_000_000),),
    "aesthetic_quality": (
        Weight(
            path="clip_model/ViT-L-14.pt",
            size=933_000_000,
            sha256="b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
            script=True,
        ),
        Weight(path="aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth", size=4_000),
    ),
    "imaging_quality": (
        Weight(
            path="pyiqa_model/musiq_spaq_ckpt-358bb6af.pth", size=109_000_000, sha256="358bb6af"
        ),
    ),
    "human_action": (
        Weight(path="umt_model/l16_ptk710_ftk710_ftk400_f16_res224.pth", size=1_200_000_000),
    ),
    "overall_consistency": _VICLIP,
    "temporal_style": _VICLIP,
    "appearance_style": (_CLIP_B,),
    "scene": (
        Weight(path="caption_model/tag2text_swin_14m.pth"),
        Weight(path=_BERT + "config.json", root="HF_HOME", source="bert-base-uncased, whole"),
        Weight(path=_BERT + "vocab.txt", root="HF_HOME", source="bert-base-uncased, whole"),
    ),
    **dict.fromkeys(("object_class", "multiple_objects", "color", "spatial_relationship"), _GRIT),
}

_BASE = ("vbench", "torch", "torchvision", "decord", "cv2", "PIL", "numpy", "tqdm")
_CLIP = ("clip", "pkg_resources", "ftfy", "regex")
_DETECTOR = ("detectron2", "fvcore", "lvis", "timm", "transformers")
PACKAGES: dict[str, tuple[str, ...]] = {
    "subject_consistency": (),
    "temporal_flickering": (),
    "background_consistency": _CLIP,
    "motion_smoothness": ("omegaconf",),
    "dynamic_degree": ("easydict", "scipy"),
    "aesthetic_quality": _CLIP,
    "imaging_quality": ("pyiqa",),
    "human_action": (*_CLIP, "timm", "pandas"),
    "overall_consistency": (*_CLIP, "einops", "timm"),
    "temporal_style": (*_CLIP, "einops", "timm"),
    "appearance_style": _CLIP,
    "scene": ("transformers", "timm", "fairscale", "scipy"),
    **dict.fromkeys(
        ("object_class", "multiple_objects", "color", "spatial_relationship"), _DETECTOR
    ),
}
"""What each imports beside :data:`_BASE`, by import name."""

INSTALLED_AS = {
    "cv2": "opencv-python",
    "PIL": "pillow",
    "clip": "openai-clip",
    "pkg_resources": "setuptools<81",
    "detectron2": "detectron2, from its source: no registry has it",
}


# --- weights --------------------------------------------------------------------------------------


def roots(env: Mapping[str, str]) -> dict[Root, Path]:
    """Where each root lies under these environment variables."""
    home = Path(env.get("HOME") or Path.home())
    cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    return {
        "VBENCH_CACHE_DIR": Path(env.get("VBENCH_CACHE_DIR") or home / ".cache" / "vbench"),
        "TORCH_HOME": Path(env.get("TORCH_HOME") or cache / "torch"),
        "HF_HOME": Path(env.get("HF_HOME") or cache / "huggingface"),
    }


def located(weight: Weight, env: Mapping[str, str]) -> Path | None:
    """The file, if it is there."""
    return next(roots(env)[weight.root].glob(weight.path), None)


def weight_faults(dimension: str, env: Mapping[str, str], shipped: set[str]) -> list[str]:
    """One sentence for each weight file that is missing or unfit.

    ``shipped`` names the packages at hand: a file that comes inside one is not missed.
    """
    faults = []
    for weight in WEIGHTS[known(dimension).name]:
        if (path := located(weight, env)) is not None:
            if problem := _problem(weight, path):
                faults.append(f"{path} {problem}; get it again ({_described(weight)}).")
        elif weight.inside is None or weight.inside[0] not in shipped:
            target = roots(env)[weight.root] / weight.path
            faults.append(f"{target} is missing ({_described(weight)}); {weight.root} moves it.")
    return faults


def _problem(weight: Weight, path: Path) -> str | None:
    size = path.stat().st_size
    if size == 0 or (weight.size and size < weight.size // LEAST_SHARE):
        return f"has only {size} bytes"
    if weight.script and not _is_torchscript(path):
        return "is not a TorchScript archive"
    return None


def _is_torchscript(path: Path) -> bool:
    """A saved module carries its code; a plain checkpoint only tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _described(weight: Weight) -> str:
    if weight.size is None:
        return weight.source or "size not known"
    return f"about {max(weight.size / 1e6, 0.001):.4g} MB"


# --- packages -------------------------------------------------------------------------------------

PROBE = """
import importlib.util, json, sys
sys.path[:] = [folder for folder in sys.path if folder]
found = {}
for name in sys.argv[1:]:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    found[name] = spec and (spec.origin or name)
print(json.dumps(found))
"""


def packages(dimension: str) -> tuple[str, ...]:
    """Import names of all that the dimension needs."""
    return (*_BASE, *PACKAGES[known(dimension).name])


def probe(
    python: str | Path, names: Sequence[str], env: Mapping[str, str]
) -> dict[str, str | None]:
    """Where that interpreter would import each top-level package from; nothing is imported."""
    try:
        done = subprocess.run(
            [str(python), "-c", PROBE, *names], capture_output=True, text=True, env=dict(env)
        )
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = said[-1] if done.returncode else ""
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise SetupError(
            f"{python} cannot be run ({reason}); give the interpreter of an environment that has "
            "vbench, such as the one `make vbench-env` builds."
        )
    origins: dict[str, str | None] = json.loads(done.stdout)
    return origins
