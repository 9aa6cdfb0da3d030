"""Stand-ins for VBench's checkpoints: right keys and shapes, random numbers.

Started by path in the interpreter that has vbench: ``python vbench_random_weights.py ROOT NAME...``
writes what the named dimensions load below ``ROOT/vbench`` and ``ROOT/torch``. They prove that a
dimension loads and runs; what it then says means nothing.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORKER = Path(__file__).parents[1] / "sfbench" / "vbench_worker.py"
SEED = 20250609

DINO = """
import timm, torch

def dino_vitb16(pretrained=True, **kwargs):
    model = timm.create_model("vit_base_patch16_224", num_classes=0, dynamic_img_size=True)
    url = "https://dl.fbaipublicfiles.com/dino/x/dino_vitbase16_pretrain.pth"
    model.load_state_dict(torch.hub.load_state_dict_from_url(url, map_location="cpu"))
    return model.eval()
"""
"""In place of the clone: it finds its weights as DINO's own hubconf.py does."""


def main() -> None:
    """Write what the dimensions of the command line need."""
    specification = importlib.util.spec_from_file_location("vbench_worker", WORKER)
    assert specification is not None and specification.loader is not None
    worker = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(worker)
    worker.repair_torchvision()
    torch = importlib.import_module("torch")
    torch.manual_seed(SEED)
    root = Path(sys.argv[1])
    os.environ["VBENCH_CACHE_DIR"] = str(root / "vbench")  # read when vbench is imported
    for name in sys.argv[2:]:
        WRITERS[name](torch, root)


def save(torch: Any, path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)


def dino(torch: Any, root: Path) -> None:
    timm = importlib.import_module("timm")
    model = timm.create_model("vit_base_patch16_224", num_classes=0)
    cache = root / "vbench" / "dino_model"
    name = "dino_vitbase16_pretrain.pth"
    save(torch, cache / name, model.state_dict())
    save(torch, root / "torch" / "hub" / "checkpoints" / name, model.state_dict())
    hubconf = cache / "facebookresearch_dino_main" / "hubconf.py"
    hubconf.parent.mkdir()
    hubconf.write_text(DINO)


def clip(torch: Any, path: Path, embed: int, patch: int) -> None:
    """A narrow CLIP of two layers, traced: ``clip.load`` reads its sizes from the weights."""
    model = importlib.import_module("clip.model").CLIP(
        embed, 224, 2, 256, patch, 77, 49408, 128, 2, 2
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = (torch.zeros(1, 3, 224, 224), torch.zeros(1, 77, dtype=torch.long))
    torch.jit.trace(model.eval(), inputs, check_trace=False).save(str(path))


def clip_b(torch: Any, root: Path) -> None:
    clip(torch, root / "vbench" / "clip_model" / "ViT-B-32.pt", 512, 32)


def aesthetic(torch: Any, root: Path) -> None:
    clip(torch, root / "vbench" / "clip_model" / "ViT-L-14.pt", 768, 14)
    head = torch.nn.Linear(768, 1)
    torch.nn.init.constant_(head.bias, 5.0)  # in the middle of its scale
    path = root / "vbench" / "aesthetic_model" / "emb_reader" / "sa_0_4_vit_l_14_linear.pth"
    save(torch, path, head.state_dict())


def amt(torch: Any, root: Path) -> None:
    vbench = Path(str(importlib.import_module("vbench").__file__)).parent
    omegaconf = importlib.import_module("omegaconf")
    build = importlib.import_module("vbench.third_party.amt.utils.build_utils").build_from_cfg
    config = omegaconf.OmegaConf.load(vbench / "third_party" / "amt" / "cfgs" / "AMT-S.yaml")
    model = build(config.network)
    save(torch, root / "vbench" / "amt_model" / "amt-s.pth", {"state_dict": model.state_dict()})


def raft(torch: Any, root: Path) -> None:
    easydict = importlib.import_module("easydict")
    model = importlib.import_module("vbench.third_party.RAFT.core.raft").RAFT(
        easydict.EasyDict(small=False, mixed_precision=False, alternate_corr=False)
    )
    weights = {f"module.{key}": value for key, value in model.state_dict().items()}
    save(torch, root / "vbench" / "raft_model" / "models" / "raft-things.pth", weights)


def musiq(torch: Any, root: Path) -> None:
    model = importlib.import_module("pyiqa.archs.musiq_arch").MUSIQ(pretrained=False)
    torch.nn.init.constant_(model.head.bias, 50.0)  # in the middle of its scale
    path = root / "vbench" / "pyiqa_model" / "musiq_spaq_ckpt-358bb6af.pth"
    save(torch, path, model.state_dict())


def umt(torch: Any, root: Path) -> None:
    """VBench loads this file with ``strict=False``: any tensors will do."""
    path = root / "vbench" / "umt_model" / "l16_ptk710_ftk710_ftk400_f16_res224.pth"
    save(torch, path, {"unknown": torch.randn(2**22)})


def viclip(torch: Any, root: Path) -> None:
    """Importing it looks for the vocabulary first, which the worker puts there otherwise."""
    bundled = Path(str(importlib.import_module("clip").__file__)).parent
    name = "bpe_simple_vocab_16e6.txt.gz"
    folder = root / "vbench" / "ViCLIP"
    folder.mkdir(parents=True)
    (folder / name).write_bytes((bundled / name).read_bytes())
    tokenizers = importlib.import_module("vbench.third_party.ViCLIP.simple_tokenizer")
    tokenizer = tokenizers.SimpleTokenizer(str(folder / name))
    model = importlib.import_module("vbench.third_party.ViCLIP.viclip").ViCLIP(tokenizer, None)
    for parameter in model.parameters():  # some are made without being filled
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    half = {key: value.half() for key, value in model.state_dict().items()}
    save(torch, folder / "ViClip-InternVid-10M-FLT.pth", {"model": half})
    (folder / name).unlink()


WRITERS: dict[str, Callable[[Any, Path], None]] = {
    "subject_consistency": dino,
    "background_consistency": clip_b,
    "motion_smoothness": amt,
    "dynamic_degree": raft,
    "aesthetic_quality": aesthetic,
    "imaging_quality": musiq,
    "human_action": umt,
    "overall_consistency": viclip,
    "temporal_style": viclip,
    "appearance_style": clip_b,
}


if __name__ == "__main__":
    main()
