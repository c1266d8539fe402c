"""Engines on NVIDIA GPUs: a session for each batch size, tuned on the GPU that is there."""
