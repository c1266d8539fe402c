"""The commands of `resnet-train`, a file for each question."""
