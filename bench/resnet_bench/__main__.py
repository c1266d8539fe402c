"""`resnet-bench`, also `python -m resnet_bench`."""

from resnet_bench.cli import main

if __name__ == "__main__":
    main()
