"""Train a classifier: ``python train.py model=resnet18 data=xray``; ``--help`` lists what can be chosen."""

import sys
from pathlib import Path

from raylight.config.launch import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent / "conf"))
