"""The messages of `open_inference.proto`, typed by `open_inference_pb2.pyi`."""

from resnet_proto.pool import contents

globals().update(contents(__name__))
