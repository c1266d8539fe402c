"""The depth comparison: every model under the same loads, with raw ONNX Runtime of the same file beside it."""
