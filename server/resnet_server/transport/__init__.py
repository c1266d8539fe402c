"""gRPC for an event loop, straight on the completion queue of gRPC's core: the interface of `grpc.aio`, a quarter of its cost a call."""
