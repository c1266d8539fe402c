"""resnet-serving on Ray Serve: behind its gRPC proxy (`proxied`), or placed by Ray and called directly (`placed`)."""
