"""Protobuf's wire format, read without parsing: what a message holds is counted and found before anything is made of it.

A message of 64 MiB may announce 33 million empty tensors. To parse those takes a minute and 5 GB; to count to `MOST_FIELDS`
takes less than a millisecond. https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Iterator

from resnet_server.errors import InvalidRequestError

MOST_FIELDS = 4096
"""In a message with all that is nested in it: a request has about a dozen."""
VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)
SIZES = {FIXED64: 8, FIXED32: 4, GROUP: 0, GROUP_END: 0}  # the fields of a group are counted as if they were the message's
Schema = dict[int, "Schema"]
"""The fields of a message that are messages themselves, and theirs."""


class WireError(Exception):
    """Bytes that are no protobuf message."""


class WireReader:
    """Reads the fields of one message, of at most `most` fields with those of its parts."""

    def __init__(self, message: bytes, most: int = MOST_FIELDS) -> None:
        self._message = message
        self._most = most
        self._left = most

    def fields(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type, and where the value begins and ends, without its length, for each field between two places.

        Raises WireError where the bytes end within a field, and InvalidRequestError for more fields than may be.
        """
        message = self._message
        while start < stop:
            self._left -= 1
            if self._left < 0:
                raise InvalidRequestError(f"request: has more than {self._most} fields")
            tag = message[start]
            start += 1
            if tag > 127:  # most tags and many lengths are one byte, and a call of its own costs as much as the rest
                tag, start = self._varint(start - 1, stop)
            kind = tag & 7
            if kind == BYTES:
                start, end = self._bytes(start, stop)
            else:
                end = start + self._size(kind, start, stop)
            if end > stop or tag < 8:
                raise WireError("a field without end or number")
            yield tag >> 3, kind, start, end
            start = end

    def count(self, start: int, stop: int, schema: Schema) -> None:
        """Count all fields between two places and those nested in them. Raises what `fields` raises."""
        for number, kind, begin, end in self.fields(start, stop):
            if kind == BYTES and number in schema:
                self.count(begin, end, schema[number])

    def _bytes(self, start: int, stop: int) -> tuple[int, int]:
        if start < stop and (length := self._message[start]) < 128:
            return start + 1, start + 1 + length
        length, start = self._varint(start, stop)
        return start, start + length

    def _size(self, kind: int, start: int, stop: int) -> int:
        if kind == VARINT:
            return self._varint(start, stop)[1] - start
        if kind > FIXED32:
            raise WireError(f"wire type {kind}")
        return SIZES[kind]

    def _varint(self, start: int, stop: int) -> tuple[int, int]:
        value = shift = 0
        while start < stop and shift < 70:
            byte = self._message[start]
            start += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, start
            shift += 7
        raise WireError("a number without end")


def length_delimited(number: int, data: bytes) -> bytes:
    """A field of bytes, or of a message in serialised form."""
    return varint(number << 3 | BYTES) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """A whole number that is not negative."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)
