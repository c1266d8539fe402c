"""The logic of a job, without I/O. Both clients run these generators: each yields a request and gets the response or error."""

import re
from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from resnet_proto.classifier_pb2 import ListModelsRequest

from resnet_client import messages
from resnet_client.errors import AccessError, ClientError, InvalidInputError, ModelNotFoundError, UnavailableError, UnsupportedError
from resnet_client.inputs import Item
from resnet_client.messages import Asked, Logits
from resnet_client.results import ModelInfo, Outcome
from resnet_client.rows import Rows

MAX_CALL_BYTES = 8 << 20
"""A call carries at most this much, so that one caller does not hold the server's memory; a larger image goes alone."""
CLASSIFY_ROWS = 16
"""Images in a Classify call: enough to fill a batch with the other calls of the window, few enough that answers come early."""

T = TypeVar("T")
Exchange: TypeAlias = Generator[Any, Any, T]

BAD_IMAGE = re.compile(r"images\[(\d+)\]:? *")
ROW_LIMIT = re.compile(r"(?:images|inputs\[0\]\.shape): \d+ (?:given|rows); expected 1 to (\d+)")
EVERY_CALL = (AccessError, InvalidInputError, ModelNotFoundError, UnsupportedError)
"""Errors that every further call of the job would meet."""


class RowLimits:
    """The most rows that a call to a model may hold, as far as known. A restarted server may take fewer: its own answer counts."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], int] = {}

    def learn(self, asked: Asked, rows: int) -> None:
        """Keep a model's limit."""
        self._known[asked.model, asked.version] = max(1, rows)

    def find(self, asked: Asked) -> Exchange[int]:
        """The limit, from the server's list if need be.

        A model that the list does not show as ready is not remembered; the least limit of the others does for now.
        """
        known = self._known.get((asked.model, asked.version))
        if known is not None:
            return known
        infos = messages.model_infos((yield ListModelsRequest()))
        limits = [i.max_batch_rows for i in infos if i.ready and asked.model in ("", i.name) and asked.version in ("", i.version)]
        if limits:
            self.learn(asked, min(limits))
        return max(1, min(limits or [i.max_batch_rows for i in infos if i.ready], default=1))


def list_models() -> Exchange[list[ModelInfo]]:
    """Every version the server knows of."""
    return messages.model_infos((yield ListModelsRequest()))


def classify(items: list[Item], asked: Asked, limits: RowLimits, *, strict: bool) -> Exchange[list[Outcome]]:
    """Classify one part of a job: an outcome for each item, in order.

    An image that cannot be read is left out and the others are sent again. `strict` raises the first error instead. An error that
    every call would meet is raised in any case.
    """
    found = {item.index: Outcome(item.index, item.source, error=item.error) for item in items if item.error is not None}
    if strict and found:
        raise next(outcome.error for outcome in found.values() if outcome.error is not None)
    pending = [[item for item in items if item.error is None]]
    while pending:
        batch = pending.pop()
        if not batch:
            continue
        try:
            response = yield messages.classify_request([item.data for item in batch], asked)
            answers = messages.predictions(response)
            if len(answers) != len(batch):
                raise ClientError(f"{len(answers)} answers came back for {len(batch)} images")
        except ClientError as error:
            pending += _after_failure(error, batch, asked, limits, found, strict)
        else:
            found |= {item.index: Outcome(item.index, item.source, one) for item, one in zip(batch, answers, strict=True)}
    return [found[item.index] for item in items]


def _after_failure(
    error: ClientError, batch: list[Item], asked: Asked, limits: RowLimits, found: dict[int, Outcome], strict: bool
) -> list[list[Item]]:
    """What to send instead; notes the outcome of what is given up, or raises."""
    if fewer := _fewer_rows(error, len(batch), asked, limits):
        return [batch[start : start + fewer] for start in reversed(range(0, len(batch), fewer))]
    bad = BAD_IMAGE.match(error.args[0]) if isinstance(error, InvalidInputError) else None
    if bad and int(bad[1]) < len(batch):
        item = batch[int(bad[1])]
        failed, text, rest = [item], error.args[0][bad.end() :], [i for i in batch if i is not item]
    elif strict or isinstance(error, EVERY_CALL) or (isinstance(error, UnavailableError) and not error.maybe_computed):
        raise error
    else:
        failed, text, rest = batch, "", []
    errors = {item.index: error.about(item.index, item.source, text) for item in failed}
    if strict:
        raise next(iter(errors.values())) from None
    found |= {item.index: Outcome(item.index, item.source, error=errors[item.index]) for item in failed}
    return [rest]


def infer(rows: Rows, asked: Asked, limits: RowLimits) -> Exchange[Logits]:
    """Compute one part of a job: FP32 [n, classes]."""
    parts: list[Logits] = []
    pending = [rows.pixels]
    while pending:
        batch = pending.pop()
        try:
            parts.append(messages.logits((yield messages.infer_request(batch, asked)), len(batch)))
        except ClientError as error:
            fewer = _fewer_rows(error, len(batch), asked, limits)
            if not fewer:
                raise
            pending += [batch[start : start + fewer] for start in reversed(range(0, len(batch), fewer))]
    return messages.joined(parts)


def _fewer_rows(error: ClientError, rows: int, asked: Asked, limits: RowLimits) -> int:
    """The limit that the server names, if that is what the call failed for; 0 otherwise."""
    named = ROW_LIMIT.match(error.args[0]) if isinstance(error, InvalidInputError) else None
    if not named or not 0 < int(named[1]) < rows:
        return 0
    limits.learn(asked, int(named[1]))
    return int(named[1])
