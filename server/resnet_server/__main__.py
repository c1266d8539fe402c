"""`resnet-server`, also `python -m resnet_server`."""

from resnet_server.cli import main

if __name__ == "__main__":
    main()
