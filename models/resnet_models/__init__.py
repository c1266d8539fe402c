"""The residual network family of He et al. (arXiv 1512.03385): definition, data, training, checkpoints.

Importing the package is free of torch, so that the bundled sample (`resnet_models.sample`) and the
pretrained files (`resnet_models.pretrained`) are at hand where torch is not installed.
"""
