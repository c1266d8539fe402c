"""`resnet-train`, also `python -m resnet_models`."""

from resnet_models.cli import main

if __name__ == "__main__":
    main()
