"""Callbacks beside the steps of training: averaged weights, checkpoints, time budget, pruning."""
