"""The bundled CIFAR-10 networks as a model repository: ONNX files, manifests and certificates, made by `resnet-export publish`.

They are data of their own distribution, `resnet-serving-networks`; nothing here is imported but the path.
"""

from pathlib import Path

REPOSITORY = Path(__file__).parent / "repository"
"""The folder that `resnet-server serve --repository` takes."""
