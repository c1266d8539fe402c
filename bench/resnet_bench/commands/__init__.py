"""The commands: `load`, `depths`, `compare` and `peers`."""
