"""What a call costs in a Python gRPC server before any network is computed: the ways to write a handler, compared."""
