"""The messages of `manifest.proto`, typed by `manifest_pb2.pyi`."""

from resnet_proto.pool import contents

globals().update(contents(__name__))
