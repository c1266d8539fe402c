"""Reading results.json back: dataclasses from JSON by their annotations."""

import json
import types
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from resnet_bench.errors import BenchError
from resnet_bench.schema import FORMAT, Report


def read_report(path: Path) -> Report:
    """Read a results.json, or the one in a folder; raises BenchError where there is none or it has another format."""
    file = path / "results.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise BenchError(f"{file}: is not JSON; expected a results.json of resnet-bench depths") from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise BenchError(f"{file}: format is {found!r}; this release reads {FORMAT}")
    try:
        report: Report = built(Report, values)
    except (KeyError, TypeError, ValueError) as error:
        raise BenchError(f"{file}: is not a result of resnet-bench depths: {error!r}") from None
    return report


def built(kind: Any, value: Any) -> Any:
    """`value`, as JSON gives it, as a `kind`: a dataclass, tuple, dict, optional or plain type. Raises KeyError or TypeError."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{item.name: built(hints[item.name], value[item.name]) for item in fields(kind)})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else built(next(part for part in arguments if part is not type(None)), value)
    if origin is tuple:
        return tuple(built(arguments[0], part) for part in value)
    if origin is dict:
        return dict(value)
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not {kind.__name__}")
    return value
