"""Train a classifier: ``python train.py model=resnet18 data=xray``; ``--help`` lists what can be chosen."""

import sys

from raylight.pipeline.command import train_command
from raylight.process import ending_at_once

if __name__ == "__main__":
    with ending_at_once():
        sys.exit(train_command(sys.argv[1:]))
