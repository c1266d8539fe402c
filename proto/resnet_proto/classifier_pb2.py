"""The messages of `classifier.proto`, typed by `classifier_pb2.pyi`."""

from resnet_proto.pool import contents

globals().update(contents(__name__))
