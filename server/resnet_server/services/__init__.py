"""The gRPC services: they decode, ask the registry, and encode; nothing here computes."""
