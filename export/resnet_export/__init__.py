"""From a checkpoint to a published, certified ONNX model."""
