"""Dynamic batching of one model. Pure: no network, no ONNX Runtime, no Prometheus; clock and engines are injected."""
