"""Why residual networks train: gradients, paths, lesions, magnitudes and activations of a trained network, measured."""
