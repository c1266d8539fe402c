"""A message as JSON."""

from typing import Any

from google.protobuf.message import Message


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON numbers and strings, every field that is set or repeated; 64-bit numbers stay numbers, as Triton writes them."""
    document: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            document[field.name] = {key: plain(item) if isinstance(item, Message) else item for key, item in value.items()}
        elif field.is_repeated:
            document[field.name] = [plain(item) if isinstance(item, Message) else item for item in value]
        elif field.message_type is not None:
            if message.HasField(field.name):
                document[field.name] = plain(value)
        elif field.containing_oneof is None or message.HasField(field.name):
            document[field.name] = field.enum_type.values_by_number[value].name if field.enum_type is not None else value
    return document
