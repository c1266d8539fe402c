"""Benchmarks: what a depth costs and gives, through the service and beside raw ONNX Runtime."""
