"""gRPC: the Open Inference Protocol, the Classifier, health and reflection on one port."""
