"""What people have on disk, as the libraries that write it write it, with the pipeline of its owner."""

import hashlib
import io
import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import others
import timm
import torch
from networks import logits_of, seeded
from numpy.typing import NDArray
from photographs import encoded
from PIL import Image
from resnet_export.sources.interface import Given, Source
from resnet_models.checkpoint import CheckpointInfo, save_checkpoint
from resnet_models.network import ResNet as Ours
from resnet_models.normalisation import IMAGENET, Normalisation
from resnet_models.variants import find_variant
from safetensors.torch import save_file
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize
from transformers import ResNetConfig, ResNetForImageClassification

PICTURES = [encoded(index) for index in range(20)]
BICUBIC = InterpolationMode.BICUBIC
SMALL = {"size": 64, "resize": 73}
Transform = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Case:
    """What lies on disk and is typed, and the owner's pipeline: pixels, then normalised logits."""

    text: str
    owner: nn.Module
    transform: Transform
    normalisation: Normalisation = IMAGENET
    order: str = "RGB"
    classes: int = others.CLASSES
    options: dict[str, Any] = field(default_factory=dict)
    tolerance: int = 0  # of a pixel's value, where the owner's library resizes by other arithmetic

    def pixels(self) -> NDArray[np.uint8]:
        """UINT8 [n, h, w, channels] as the owner's code makes them."""
        rows = [np.asarray(self.transform(Image.open(io.BytesIO(data)).convert("RGB"))) for data in PICTURES]
        return np.stack([row if row.ndim == 3 else row[..., None] for row in rows])

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """FP32 [n, classes] of the owner's code."""
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        x = x.flip(1) if self.order == "BGR" else x
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.normalisation.mean, self.normalisation.std))
        return np.asarray(logits_of(self.owner, (x - mean) / std).numpy())


def crop(size: int = 224, resize: int | None = None, interpolation: InterpolationMode = InterpolationMode.BILINEAR) -> Transform:
    steps: Transform = Compose([Resize(resize or size * 8 // 7, interpolation), CenterCrop(size)])
    return steps


SMALL_CROP = crop(64, 73)
PLAIN = seeded(others.plain())
AVERAGED = seeded(others.plain(), seed=1)


def case(path: Path, owner: nn.Module = PLAIN, transform: Transform = SMALL_CROP, **options: Any) -> Case:
    facts = {name: options.pop(name) for name in ("normalisation", "order", "classes", "tolerance") if name in options}
    return Case(str(path), owner, transform, options=SMALL | options, **facts)


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def prefixed(prefix: str, network: nn.Module = PLAIN, head: str = "fc.") -> dict[str, Tensor]:
    return {prefix + key if not key.startswith("fc.") else prefix + head + key[3:]: value for key, value in network.state_dict().items()}


STATE = PLAIN.state_dict()
ARGS = Namespace(lr=0.1, model="resnet18", output_dir="out", epochs=90)
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.zeros(3, 3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}

LIGHTNING = {  # what Lightning 2.6 writes around the weights
    "epoch": 3,
    "global_step": 8,
    "pytorch-lightning_version": "2.6.6",
    "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4, "completed": 4}}}},
    "callbacks": {"ModelCheckpoint{'monitor': None}": {"dirpath": "out", "kth_value": torch.tensor(float("inf")), "best_k_models": {}}},
    "optimizer_states": [OPTIMIZER],
    "lr_schedulers": [{"T_max": 5, "base_lrs": [0.1], "last_epoch": 1, "_last_lr": [0.09]}],
    "hparams_name": "kwargs",
    "hyper_parameters": {"lr": 0.1, "data_root": Path("/data"), "opts": {"a": 1}},
}

FILES: dict[str, Callable[[Path], Path]] = {
    "bare": lambda f: saved(f / "a.pth", STATE),
    "DataParallel": lambda f: saved(f / "a.pth", prefixed("module.")),
    "legacy format": lambda f: saved(f / "a.pt", STATE, _use_new_zipfile_serialization=False),
    "bin": lambda f: saved(f / "pytorch_model.bin", STATE),
    "upper-case suffix": lambda f: saved(f / "A.PTH", STATE),
    "no suffix": lambda f: saved(f / "weights", STATE),
    "a path in other letters": lambda f: saved(f / "Gewichte für Bäume 木.pth", STATE),
    "double precision": lambda f: saved(f / "a.pth", {k: v.double() if v.is_floating_point() else v for k, v in STATE.items()}),
    "safetensors": lambda f: (save_file(dict(STATE), f / "a.safetensors"), f / "a.safetensors")[1],
    "without counters": lambda f: saved(f / "a.pth", {k: v for k, v in STATE.items() if "num_batches" not in k}),
    "torchvision's training script": lambda f: saved(
        f / "model_89.pth", {"model": STATE, "optimizer": OPTIMIZER, "lr_scheduler": {"last_epoch": 3}, "epoch": 89, "args": ARGS}
    ),
    "net, with a numpy scalar": lambda f: saved(f / "ckpt.t7", {"net": prefixed("module."), "acc": np.float64(93.1), "epoch": 3}),
    "a tutorial's model_state_dict": lambda f: saved(f / "a.tar", {"model_state_dict": STATE, "optimizer_state_dict": OPTIMIZER}),
    "torch.compile": lambda f: saved(f / "a.pth", prefixed("_orig_mod.")),
    "torch.compile of DataParallel": lambda f: saved(f / "a.pth", prefixed("_orig_mod.module.")),
    "AveragedModel": lambda f: saved(f / "a.pth", AveragedModel(PLAIN).state_dict()),
    "a wrapper's backbone and head": lambda f: saved(f / "a.pth", {**prefixed("backbone."), "loss.weight": torch.ones(2, 2)}),
    "a wrapper with the head outside": lambda f: saved(
        f / "a.pth", {("encoder." + k if not k.startswith("fc.") else "classifier" + k[2:]): v for k, v in STATE.items()}
    ),
    "profiler's counters": lambda f: saved(f / "a.pth", {**STATE, "total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)}),
    "children by number": lambda f: saved(f / "a.pth", numbered(STATE)),
    "kuangliu's names": lambda f: saved(
        f / "a.pth", {k.replace("downsample", "shortcut").replace("fc.", "linear."): v for k, v in STATE.items()}
    ),
    "Lightning": lambda f: saved(
        f / "epoch=3.ckpt", LIGHTNING | {"state_dict": {**prefixed("model."), "criterion.weight": torch.ones(37)}}
    ),
    "both, the plain one chosen": lambda f: saved(f / "a.pth", {"state_dict": STATE, "state_dict_ema": AVERAGED.state_dict()}),
    "timm's file with averages": lambda f: saved(
        f / "a.pth", {"state_dict": AVERAGED.state_dict(), "state_dict_ema": STATE, "arch": "resnet18"}
    ),
    "torchvision's with averages": lambda f: saved(
        f / "a.pth", {"model": AVERAGED.state_dict(), "model_ema": AveragedModel(PLAIN).state_dict(), "args": ARGS}
    ),
}


def numbered(state: dict[str, Tensor]) -> dict[str, Tensor]:
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    return {f"{numbers.get(key.split('.')[0], 'fc')}.{key.partition('.')[2]}": value for key, value in state.items()}


def other_head(folder: Path, head: nn.Module) -> Case:
    network = others.plain()
    network.fc = head
    network = seeded(network)
    return case(saved(folder / "a.pth", network.state_dict()), network)


def one_channel(folder: Path) -> Case:
    network = others.plain(10)
    network.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    grey = Normalisation((0.1307,), (0.3081,))
    network = seeded(network, channels=1)
    path = saved(folder / "mnist.pth", network.state_dict())
    transform = Compose([SMALL_CROP, lambda image: image.convert("L")])
    facts = {"normalisation": grey, "classes": 10, "mean": grey.mean, "std": grey.std}
    return case(path, network, lambda image: transform(image.convert("L")), **facts)


def cifar_stem(folder: Path) -> Case:
    network = others.plain(10)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    network = seeded(network, size=32)
    options = {"classes": 10, "mean": IMAGENET.mean, "std": IMAGENET.std, "size": 32, "resize": 32}
    return case(saved(folder / "a.pth", network.state_dict()), network, crop(32, 32), **options)


def multi_label(folder: Path) -> Case:
    network = seeded(others.plain(12))
    return case(saved(folder / "a.pth", network.state_dict()), network, classes=12, multi_label=True)


def in_half(folder: Path) -> Case:
    network = seeded(others.plain()).half()
    path = saved(folder / "a.pth", {key: value.clone() for key, value in network.state_dict().items()})
    return case(path, network.float())


def with_bottlenecks(folder: Path, **options: object) -> Case:
    network = seeded(others.bottlenecks(**options))
    return case(saved(folder / "a.pth", network.state_dict()), network)


NETWORKS: dict[str, Callable[[Path], Case]] = {
    "3 classes": lambda f: case(saved(f / "a.pth", (n := seeded(others.plain(3))).state_dict()), n, classes=3),
    "one logit": lambda f: case(saved(f / "a.pth", (n := seeded(others.plain(1))).state_dict()), n, classes=1),
    "half precision": in_half,
    "multi-label": multi_label,
    "head of Dropout and Linear": lambda f: other_head(f, nn.Sequential(nn.Dropout(0.2), nn.Linear(512, 37))),
    "head of two Linears": lambda f: other_head(f, nn.Sequential(nn.Linear(512, 40), nn.ReLU(), nn.Dropout(), nn.Linear(40, 37))),
    "MNIST's one channel": one_channel,
    "CIFAR stem": cifar_stem,
    "bottlenecks": with_bottlenecks,
    "ResNeXt": lambda f: with_bottlenecks(f, groups=32, width_per_group=4),
    "wide": lambda f: with_bottlenecks(f, width_per_group=128),
    "BGR": lambda f: case(saved(f / "a.pth", STATE), order="BGR", colour_order="BGR"),
    "trained without normalisation": lambda f: case(
        saved(f / "a.pth", STATE), normalisation=Normalisation((0.0,) * 3, (1.0,) * 3), mean=(0.0,) * 3, std=(1.0,) * 3
    ),
    "the defaults: 224 of 256": lambda f: Case(str(saved(f / "a.pth", STATE)), PLAIN, crop()),
    "224 of 232": lambda f: Case(str(saved(f / "a.pth", STATE)), PLAIN, crop(224, 232), options={"resize": 232}),
    "224 of 236, bicubic": lambda f: Case(
        str(saved(f / "a.pth", STATE)), PLAIN, crop(224, 236, BICUBIC), options={"resize": 236, "interpolation": "bicubic"}
    ),
    "squashed to 224": lambda f: Case(str(saved(f / "a.pth", STATE)), PLAIN, Resize((224, 224)), options={"resize": 224, "squash": True}),
    "288": lambda f: Case(str(saved(f / "a.pth", STATE)), PLAIN, crop(288, 320), options={"size": 288, "resize": 320}),
    "96": lambda f: Case(str(saved(f / "a.pth", STATE)), PLAIN, crop(96, 110), options={"size": 96}),
    "our own format, 96 of 100 bicubic": lambda f: ours(f),
    "ONNX": lambda f: exported(f),
}


def ours(folder: Path) -> Case:
    network = seeded(Ours(find_variant("resnet10"), 37))
    labels = tuple(f"label {index}" for index in range(37))
    assert isinstance(network, Ours)
    save_checkpoint(folder / "a.safetensors", network, CheckpointInfo("resnet10", labels, IMAGENET, 96, 100, "bicubic"))
    return Case(str(folder / "a.safetensors"), network, crop(96, 100, BICUBIC), classes=0)


def exported(folder: Path) -> Case:
    program = torch.onnx.export(PLAIN, (torch.zeros(1, 3, 64, 64),), dynamo=True, input_names=["image"], verbose=False)
    assert program is not None
    program.save(str(folder / "a.onnx"))
    return case(folder / "a.onnx", mean=IMAGENET.mean, std=IMAGENET.std)


SAME_KEYS = ["ceil_mode", "dilated", "no_pool", "smooth", "first_stride", "other_epsilon", "padded_at_the_end", "plain"]


def own_code(folder: Path, name: str) -> Case:
    network = seeded(others.plain()) if name == "plain" else getattr(others, name)()
    path = saved(folder / "a.pth", {"state_dict": {"net." + key: value for key, value in network.state_dict().items()}})
    return case(path, network, model=f"others:{name}", mean=IMAGENET.mean, std=IMAGENET.std)


TIMM = ["resnet18", "resnet26t", "resnet50d", "resnetaa50", "resnetblur18", "resnetv2_50", "seresnet50", "ecaresnet26t"]


def timm_folder(folder: Path, name: str, mode: str = "center") -> Case:
    args: dict[str, Any] = {"layers": [1, 1, 1, 1]}
    network = seeded(timm.create_model(name, num_classes=37, **args))
    data = {
        "input_size": [3, 96, 96],
        "crop_pct": 0.95,
        "interpolation": "bicubic",
        "crop_mode": mode,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    config = {
        "architecture": name,
        "num_classes": 37,
        "model_args": args,
        "pretrained_cfg": {**data, "label_names": [f"l{i}" for i in range(37)]},
    }
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    resolve: Any = resolve_data_config  # timm leaves it untyped
    steps = create_transform(**resolve(data), is_training=False).transforms[:2]
    return Case(str(folder), network, Compose(steps), Normalisation((0.5,) * 3, (0.25,) * 3), classes=0)


TRANSFORMERS: dict[str, dict[str, Any]] = {
    "basic": {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]},
    "bottleneck": {},
    "stride on the first": {"downsample_in_bottleneck": True},
    "first stage downsampled": {"downsample_in_first_stage": True},
    "SiLU": {"hidden_act": "silu"},
}


def transformers_folder(folder: Path, name: str, size: int = 96) -> Case:
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    config = ResNetConfig(depths=[1, 1, 1, 1], **TRANSFORMERS[name])
    config.num_labels = 37
    network = seeded(ResNetForImageClassification(config))
    processor = ConvNextImageProcessorPil(size={"shortest_edge": size}, crop_pct=0.875)
    network.save_pretrained(folder)  # type: ignore[operator]  # transformers' own
    processor.save_pretrained(folder)
    steps = processor.to_dict()
    normalisation = Normalisation(tuple(steps["image_mean"]), tuple(steps["image_std"]))

    def transform(image: Image.Image) -> Image.Image:
        planes = processor(image, do_rescale=False, do_normalize=False)["pixel_values"][0]
        return Image.fromarray(np.asarray(planes).transpose(1, 2, 0).astype(np.uint8))

    return Case(str(folder), network, transform, normalisation, classes=0)


def state_of_plain(folder: Path, write: Callable[[Path], Path]) -> Case:
    return case(write(folder))


ORIGINS: dict[str, dict[str, Callable[[Path], Case]]] = {
    "a file of weights": {name: partial(state_of_plain, write=write) for name, write in FILES.items()},
    "a file of weights with what it does not say": NETWORKS,
    "the owner's code, `--model`": {f"same keys, {name}": partial(own_code, name=name) for name in SAME_KEYS},
    "a folder of timm": {
        **{f"timm {name}": partial(timm_folder, name=name) for name in TIMM},
        "timm, squashed": partial(timm_folder, name="resnet18", mode="squash"),
    },
    "a folder of transformers": {
        **{f"transformers {name}": partial(transformers_folder, name=name) for name in TRANSFORMERS},
        "transformers at 384, squashed": partial(transformers_folder, name="basic", size=384),
    },
}
CASES: dict[str, Callable[[Path], Case]] = {name: make for cases in ORIGINS.values() for name, make in cases.items()}


def write(name: str, folder: Path) -> tuple[Case, Given]:
    """Write a case into a new folder below `folder`; what is typed."""
    place = folder / "case"
    place.mkdir()
    tried = CASES[name](place)
    labels = None
    if tried.classes:
        labels = place / "labels.txt"
        labels.write_text("".join(f"label {index}\n" for index in range(tried.classes)))
    chosen: dict[str, Any] = {"weights": "state_dict"} if name.endswith("chosen") else {}
    return tried, Given(labels=labels, **chosen, **tried.options)


def identity(source: Source) -> str:
    """The same for sources whose served graph and preprocessing are the same."""
    info = source.checkpoint.info
    facts = (info.normalisation, info.input_size, info.resize, info.interpolation, info.squash, info.colour_order, info.multi_label)
    digest = hashlib.sha256(repr((type(source.checkpoint.network), facts, info.antialias, info.crop_rounding, info.channels)).encode())
    for value in source.checkpoint.network.state_dict().values():
        digest.update(value.numpy().tobytes())
    return digest.hexdigest() if list(source.checkpoint.network.parameters()) else str(source.file)
