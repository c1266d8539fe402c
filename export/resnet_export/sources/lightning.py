"""Lightning checkpoints: weights beside hyperparameters, which may name the classes."""

from collections.abc import Mapping

VERSION_KEYS = ("pytorch-lightning_version", "lightning_version")
NAMES = ("class_names", "classes", "labels", "label_names")


def is_lightning(content: object) -> bool:
    """Whether Lightning wrote it."""
    return isinstance(content, Mapping) and any(key in content for key in VERSION_KEYS)


def lightning_labels(content: object, classes: int) -> tuple[str, ...]:
    """The class names among the hyperparameters where there is one for each class; else nothing."""
    if not isinstance(content, Mapping) or not is_lightning(content):
        return ()
    for place in ("hyper_parameters", "datamodule_hyper_parameters"):
        hyperparameters = content.get(place) or {}
        for name in NAMES if isinstance(hyperparameters, Mapping) else ():
            value = hyperparameters.get(name)
            if isinstance(value, list | tuple) and len(value) == classes and all(isinstance(label, str) for label in value):
                return tuple(value)
    return ()
