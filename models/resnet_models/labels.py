"""Class labels: the built-in CIFAR-10 names, and the forms in which people keep theirs."""

import codecs
import csv
import json
import re
from pathlib import Path
from typing import Any

from resnet_models.errors import DataError

CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
SYNSET = re.compile(r"^(n\d{8})[\s,]+(\S.*)$")
EXPECTED = "expected one name a line in UTF-8, a JSON list or id2label mapping, or CSV with an index and a name"


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels in class order from a file of one of the common forms; raise DataError, naming the form found, for another.

    One name a line (also after a WordNet id, `n01440764 tench`), a JSON list, JSON that maps indices to names (`id2label`, also inside
    a config.json) or to `[id, name]` (torchvision's class index), JSON that maps names to indices, and CSV with a column of indices.
    """
    text = _decode(path)
    try:
        labels = _from_json(json.loads(text), path) if text.lstrip()[:1] in ("[", "{") else _from_lines(text, path)
    except json.JSONDecodeError as error:
        raise DataError(f"labels: {path} begins like JSON but is none: {error}; {EXPECTED}") from None
    if not labels:
        raise DataError(f"labels: {path} holds no label; {EXPECTED}")
    if broken := [label for label in labels if not label or len(label.splitlines()) != 1]:
        raise DataError(f"labels: {path} holds {broken[0][:40]!r}, which is no name on one line")
    return labels


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"labels: {path} cannot be read: {error.strerror}") from None
    for mark, name in MARKS.items():
        if data.startswith(mark):
            raise DataError(f"labels: {path} is {name}; expected UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"labels: {path} is not UTF-8 (byte {error.start} is 0x{data[error.start]:02x}), perhaps Latin-1; expected UTF-8"
        ) from None


def _from_json(content: Any, path: Path) -> tuple[str, ...]:
    if isinstance(content, dict) and isinstance(inner := content.get("id2label", content.get("label_names")), dict | list):
        content = inner
    if isinstance(content, list):
        if not all(isinstance(name, str) for name in content):
            raise DataError(f"labels: {path} is a JSON list of other things than names; {EXPECTED}")
        return tuple(name.strip() for name in content)
    pairs = [_pair(key, value) for key, value in content.items()]
    if not all(pairs):
        raise DataError(f"labels: {path} is JSON that maps neither indices to names nor names to indices; {EXPECTED}")
    return _in_order([pair for pair in pairs if pair], path)


def _pair(key: str, value: Any) -> tuple[int, str] | None:
    if key.isdecimal() and isinstance(value, str):
        return int(key), value.strip()
    if key.isdecimal() and isinstance(value, list) and value and isinstance(value[-1], str):
        return int(key), value[-1].strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return value, key.strip()
    return None


def _in_order(pairs: list[tuple[int, str]], path: Path) -> tuple[str, ...]:
    pairs = sorted(pairs)
    if [index for index, _ in pairs] != list(range(len(pairs))):
        raise DataError(
            f"labels: {path} gives indices {pairs[0][0]} to {pairs[-1][0]} for {len(pairs)} names; expected each of 0 to {len(pairs) - 1}"
        )
    return tuple(name for _, name in pairs)


def _from_lines(text: str, path: Path) -> tuple[str, ...]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and all(SYNSET.match(line) for line in lines):
        return tuple(match[2] for line in lines if (match := SYNSET.match(line)))
    rows = list(csv.reader(lines, skipinitialspace=True))
    head = rows[1:] if len(rows) > 1 and not any(cell.strip().isdecimal() for cell in rows[0]) else rows
    numbered = [row for row in head if len(row) == 2 and sum(cell.strip().isdecimal() for cell in row) >= 1]
    if head and len(numbered) == len(head):
        first = all(row[0].strip().isdecimal() for row in head)
        return _in_order([(int(row[0 if first else 1]), row[1 if first else 0].strip()) for row in head], path)
    if lines and all(len(row) == 1 for row in rows):
        return tuple(row[0].strip() for row in rows)
    if lines and all('"' in line for line in lines):
        raise DataError(f"labels: {path} is CSV without a column of indices; {EXPECTED}")
    return tuple(lines)
