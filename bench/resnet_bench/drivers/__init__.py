"""What sends: open and closed loops of our own, h2load, and raw ONNX Runtime. Each turns a load into a Sample."""
