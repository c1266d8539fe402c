"""Our Open Inference Protocol against the descriptor that the public client ships, field by field; both live in one process."""

import subprocess
import sys
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FileDescriptor
from resnet_proto import open_inference_pb2
from resnet_proto.pool import POOL
from serving import RunningServer
from tritonclient.grpc import model_config_pb2, service_pb2

# In the protocol's own file, but not in Triton's copy of it.
NOT_TRITONS = {"inference.ModelMetadataResponse": {"properties"}, "inference.ModelMetadataResponse.PropertiesEntry": {"key", "value"}}


def fields(message: Descriptor) -> dict[str, dict[str, Any]]:
    found = {
        f.name: (
            f.number,
            f.type,
            f.is_repeated,
            f.message_type.full_name if f.message_type else None,
            f.containing_oneof.name if f.containing_oneof else None,
        )
        for f in message.fields
    }
    return {message.full_name: found} | {name: facts for nested in message.nested_types for name, facts in fields(nested).items()}


def messages(file: FileDescriptor) -> dict[str, dict[str, Any]]:
    return {name: facts for message in file.message_types_by_name.values() for name, facts in fields(message).items()}


def services(file: FileDescriptor) -> dict[str, dict[str, Any]]:
    return {
        s.full_name: {m.name: (m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming) for m in s.methods}
        for s in file.services_by_name.values()
    }


def test_every_message_field_and_method_is_the_protocols() -> None:
    ours, theirs = open_inference_pb2.DESCRIPTOR, service_pb2.DESCRIPTOR
    assert ours.pool is POOL is not theirs.pool
    our_messages, their_messages = messages(ours), messages(theirs) | messages(model_config_pb2.DESCRIPTOR)
    assert len(our_messages) > 20
    for name, found in our_messages.items():
        for field in found.keys() - NOT_TRITONS.get(name, set()):
            assert their_messages[name][field] == found[field], f"{name}.{field}"
    our_services, their_services = services(ours), services(theirs)
    assert list(our_services) == ["inference.GRPCInferenceService"]
    for method, facts in our_services["inference.GRPCInferenceService"].items():
        assert their_services["inference.GRPCInferenceService"][method] == facts, method
    assert our_services["inference.GRPCInferenceService"].keys() == their_services["inference.GRPCInferenceService"].keys()


# In a process of its own: each order of import is a first one.
BOTH_CLIENTS = """
import sys
{imports}
import numpy as np

images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
tensor = tritonclient.grpc.InferInput("image", images.shape, "UINT8")
tensor.set_data_from_numpy(images)
theirs = tritonclient.grpc.InferenceServerClient(sys.argv[1]).infer("resnet20", [tensor]).as_numpy("logits")
with resnet_client.Client(sys.argv[1]) as client:
    ours = client.infer(images, model="resnet20")
np.testing.assert_array_equal(ours, theirs)
assert ours.shape == (2, 10)
"""


@pytest.mark.parametrize("order", [("resnet_client", "tritonclient.grpc"), ("tritonclient.grpc", "resnet_client")])
def test_both_clients_work_in_one_process(order: tuple[str, str], server: RunningServer) -> None:
    program = BOTH_CLIENTS.format(imports="\n".join(f"import {module}" for module in order))
    result = subprocess.run([sys.executable, "-c", program, server.url], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
