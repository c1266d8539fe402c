"""The server: certified models over gRPC with dynamic batching on ONNX Runtime. Never imports torch."""
