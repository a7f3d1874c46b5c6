"""What happens beside the steps of training: averaged weights, checkpoints, stopping a hopeless trial."""
