"""Programs that run in the peers' own environments, copied there: each serves the file with ONNX Runtime as its server advises."""
