"""Load on any Open Inference Protocol server: open loop and closed loop, from processes of its own."""
