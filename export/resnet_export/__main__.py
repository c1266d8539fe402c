"""`resnet-export`, also `python -m resnet_export`."""

from resnet_export.cli import main

if __name__ == "__main__":
    main()
