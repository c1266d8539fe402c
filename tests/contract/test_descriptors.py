"""Our Open Inference Protocol against the descriptor that the public client ships, field by field."""

import json
import subprocess
import sys
from typing import Any

from resnet_proto import open_inference_pb2

# Runs with either module, in a process of its own: two copies of a package cannot live in one protobuf pool.
DUMP = """
import importlib, json, sys

def fields(message):
    found = {f.name: [f.number, f.type, f.is_repeated, f.message_type.full_name if f.message_type else None,
                      f.containing_oneof.name if f.containing_oneof else None] for f in message.fields}
    return {message.full_name: found} | {k: v for nested in message.nested_types for k, v in fields(nested).items()}

file = importlib.import_module(sys.argv[1]).DESCRIPTOR
messages = {k: v for message in file.message_types_by_name.values() for k, v in fields(message).items()}
services = {s.full_name: {m.name: [m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming]
                          for m in s.methods} for s in file.services_by_name.values()}
print(json.dumps([messages, services]))
"""


def dump(module: str) -> tuple[dict[str, Any], dict[str, Any]]:
    result = subprocess.run([sys.executable, "-c", DUMP, module], capture_output=True, text=True, check=True)
    messages, services = json.loads(result.stdout)
    return messages, services


# In the protocol's own file, but not in Triton's copy of it.
NOT_TRITONS = {"inference.ModelMetadataResponse": {"properties"}, "inference.ModelMetadataResponse.PropertiesEntry": {"key", "value"}}


def test_every_message_field_and_method_is_the_protocols() -> None:
    our_messages, our_services = dump(open_inference_pb2.__name__)
    their_messages, their_services = dump("tritonclient.grpc.service_pb2")
    assert len(our_messages) > 20
    for name, fields in our_messages.items():
        for field in fields.keys() - NOT_TRITONS.get(name, set()):
            facts = fields[field]
            assert their_messages[name][field] == facts, f"{name}.{field}"
    for name, methods in our_services.items():
        for method, facts in methods.items():
            assert their_services[name][method] == facts, method
