"""Tests of Raylight. Two processes run them, on networks so small that a second thread of torch's only waits."""

import os

from raylight.process import shorten_waits

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
shorten_waits()
