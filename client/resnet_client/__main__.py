"""`resnet-client`, also `python -m resnet_client`."""

from resnet_client.cli import main

if __name__ == "__main__":
    main()
