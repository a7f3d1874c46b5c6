"""Train a classifier: ``python train.py model=resnet18 data=xray``; ``--help`` lists what can be chosen."""

import sys

from raylight.pipeline.command import train_command

if __name__ == "__main__":
    sys.exit(train_command(sys.argv[1:]))
