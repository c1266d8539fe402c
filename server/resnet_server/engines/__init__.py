"""Engines: what computes a batch. `session` opens ONNX Runtime, `in_process` runs it on a thread of its own."""
