"""Our messages, built from `messages.binpb` in a descriptor pool of their own.

Python's protobuf has one default pool for a process, and a name can be defined in it once: with `package inference` in it, nobody
could import this client beside tritonclient, KServe's or MLServer's, which define the same protocol. A pool is a matter of this
process alone; the wire does not know of it.
"""

from collections.abc import Iterable
from importlib.resources import files
from typing import Any, cast

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass


def pool_of(serialized: Iterable[bytes]) -> DescriptorPool:
    """A pool of serialized FileDescriptorProtos, dependencies first."""
    pool: Any = DescriptorPool()  # the stubs have no types for its methods
    for file in serialized:
        pool.AddSerializedFile(file)
    return cast("DescriptorPool", pool)


def _ours() -> DescriptorPool:
    found = FileDescriptorSet.FromString(files(__package__).joinpath("messages.binpb").read_bytes())
    return pool_of(file.SerializeToString() for file in found.file)


POOL: Any = _ours()


def contents(module: str) -> dict[str, Any]:
    """What the module `resnet_proto.X_pb2` holds by its generated `X_pb2.pyi`: the descriptor, messages and enums of `X.proto`."""
    file: FileDescriptor = POOL.FindFileByName(module.removesuffix("_pb2").replace(".", "/") + ".proto")
    found: dict[str, Any] = {"DESCRIPTOR": file}
    for name, message in file.message_types_by_name.items():
        found[name] = GetMessageClass(message)
        found[name].__module__ = module  # so that messages can be pickled
    for name, enum in file.enum_types_by_name.items():
        found[name] = EnumTypeWrapper(enum)
        found |= {value.name: value.number for value in enum.values}
    return found
