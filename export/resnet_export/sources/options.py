"""The options of a source, for every command that opens one."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from resnet_proto.manifest import INTERPOLATIONS

if TYPE_CHECKING:
    from resnet_models.normalisation import Triple

    from resnet_export.sources.interface import Given

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
PIXELS = click.IntRange(min=1, max=4096)


class NumbersType(click.ParamType["Triple"]):
    """A number for each channel, such as R,G,B."""

    name = "R,G,B"

    def __init__(self, *, positive: bool = False) -> None:
        self._positive = positive

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> "Triple":
        """Parse; fail with what was expected unless all are finite, and positive where they divide."""
        wanted = "positive numbers" if self._positive else "numbers"
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}'; expected {wanted} separated by commas, one for each channel (R,G,B), on the scale 0..1", param, ctx)
        if not all(-10 < number < 10 for number in numbers) or (self._positive and min(numbers) <= 0):
            self.fail(f"'{value}'; expected finite {wanted} on the scale 0..1", param, ctx)
        return numbers


OPTIONS = (
    click.option("--variant", help="The network, such as resnetaa50  [default: told from names and shapes]"),
    click.option("--weights", help="Which of several networks in the file, such as state_dict  [default: the averaged ones]"),
    click.option("--model", metavar="PACKAGE.MODULE:FACTORY", help="Your own code builds the network; CHECKPOINT holds its weights."),
    click.option("--labels", type=PATH, help="Class names: one a line, JSON (a list, id2label, class index) or CSV."),
    click.option("--mean", type=NumbersType(), help="Channel means in the network's order  [default: ImageNet's]"),
    click.option("--std", type=NumbersType(positive=True), help="Channel standard deviations  [default: ImageNet's]"),
    click.option("--size", type=PIXELS, help="Side of the input in pixels  [default: as the source says, 224 or 32]"),
    click.option("--resize", type=PIXELS, help="Pixels of the shorter side before the centre is cropped  [default: 256 for 224]"),
    click.option("--squash/--keep-proportions", default=None, help="Resize both sides, whatever the proportions."),
    click.option("--interpolation", type=click.Choice(INTERPOLATIONS), help="[default: as the source says, else bilinear]"),
    click.option("--antialias/--no-antialias", default=None, help="Average over all pixels of a larger picture, as Pillow does."),
    click.option("--colour-order", type=click.Choice(["RGB", "BGR"]), help="What the network was trained on  [default: RGB]"),
    click.option("--multi-label/--one-label", default=None, help="Each label stands on its own: sigmoid instead of softmax."),
)
NAMES = ("variant", "mean", "std", "labels", "weights", "size", "resize", "interpolation", "squash", "antialias", "colour_order")


def source_options(command: Command) -> Command:
    """Add the options that `take_given` takes."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def take_given(values: dict[str, Any]) -> "Given":
    """The source's options out of a command's values."""
    from resnet_export.sources.interface import Given

    return Given(**{name: values.pop(name) for name in (*NAMES, "multi_label", "model")})
