"""The contracts: wire messages (`*_pb2`, generated) and the manifest of a published model (`manifest`)."""
