"""What a server takes where nothing else is asked for, and clients and their test servers go by."""

MAX_MESSAGE_BYTES = 16 << 20
"""A request. 64 images of 224x224 are 9.6 MB as a tensor. gRPC's core hands a message over whole, and to gather 60 MiB of it holds the
thread that answers every call for 10 ms and more. gRPC's own limit of 4 MB would refuse a few photographs together."""
