"""From what people type to a source: the origin is told from the text, or from what the file or folder holds."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_models.variants import VARIANTS

from resnet_export.errors import ExportError
from resnet_export.sources import files, huggingface, module, onnx, timm, torchvision
from resnet_export.sources.hub_folder import CONFIG, WEIGHTS, download, read_json
from resnet_export.sources.interface import Given, Source


def read_from_hub(text: str, given: Given) -> Source:
    """`hf:REPO`, such as `hf:microsoft/resnet-50`; also one that timm wrote."""
    return read_hub_folder(download(text.removeprefix(huggingface.PREFIX), text), given)


NAMED: dict[str, Callable[[str, Given], Source]] = {
    torchvision.PREFIX: torchvision.read_named,
    timm.PREFIX: timm.read_named,
    huggingface.PREFIX: read_from_hub,
}


@contextmanager
def open_source(text: str | None, given: Given, random_weights: bool = False) -> Iterator[Source]:
    """Give the source that `text` names: a file, a folder, `torchvision:`, `timm:` or `hf:` with a name, or a variant with random weights.

    With `given.model`, the user's own module; `text` is then the file of its weights, None where it brings them.
    """
    if given.model is not None:
        yield module.read_factory(given.model, None if text is None else existing(Path(text)), given)
    elif text is None:
        raise ExportError("checkpoint: none given; expected a file, a folder, a name such as torchvision:resnet50, or --model")
    elif random_weights:
        given.refuse(*(name for name in Given.__dataclass_fields__), because="random weights have no such facts")
        with _random(text) as source:
            yield source
    elif prefix := next((prefix for prefix in NAMED if text.startswith(prefix)), None):
        yield NAMED[prefix](text, given)
    else:
        if text in VARIANTS and not Path(text).exists():
            raise ExportError(f"checkpoint: '{text}' is a variant, not a file; --random-weights publishes it untrained")
        yield read_source(Path(text), given)


def read_source(path: Path, given: Given) -> Source:
    """Read a file or a folder in the Hub's layout; raise ExportError for what is neither."""
    if path.is_dir():
        return read_hub_folder(path, given)
    existing(path)
    if path.name in WEIGHTS and (path.parent / CONFIG).is_file():
        return read_hub_folder(path.parent, given)
    if path.suffix.lower() == onnx.SUFFIX:
        return onnx.read(path, given)
    return files.read(path, given)


def existing(path: Path) -> Path:
    """The path, or an ExportError."""
    if not path.is_file():
        raise ExportError(f"checkpoint: {path} is not a file")
    return path


def read_hub_folder(folder: Path, given: Given) -> Source:
    """A folder that timm or transformers wrote."""
    if not (folder / CONFIG).is_file():
        raise ExportError(f"checkpoint: {folder} is a folder without {CONFIG}; expected a file, or a folder of timm or transformers")
    config = read_json(folder / CONFIG)
    return timm.read_folder(folder, given) if timm.is_timm(config) else huggingface.read_folder(folder, given)


@contextmanager
def _random(text: str) -> Iterator[Source]:
    from resnet_models.published import keep, with_random_weights

    checkpoint = with_random_weights(text)
    with tempfile.TemporaryDirectory() as folder:  # so that the manifest can name a digest
        yield Source(checkpoint, keep(checkpoint, Path(folder) / f"{checkpoint.info.variant}.safetensors"))
