"""Publishing from Python, where the network is at hand as a module."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from resnet_export.publish import Publication, Request
from resnet_export.publish import publish as publish_source
from resnet_export.sources.interface import Preprocessing
from resnet_export.sources.module import source_of

__all__ = ["Preprocessing", "Publication", "publish"]


def publish(
    module: nn.Module,
    *,
    preprocessing: Preprocessing,
    labels: Sequence[str],
    repository: Path | str,
    name: str,
    multi_label: bool = False,
    **options: Any,
) -> Publication:
    """Publish a module that maps normalised FP32 [n, channels, size, size] to logits FP32 [n, classes].

    The certificate compares with the module itself. `options` are the fields of `Request`, such as `images` or `precisions`.
    Raises ExportError for a module that torch.export cannot trace or that gives no logits.
    """
    with source_of(module, preprocessing, tuple(labels), name, multi_label) as source:
        return publish_source(source.checkpoint, source.file, Request(Path(repository), name, **options))
