"""From a network and batches to a trained classifier: the loop, its metrics, the machine's settings."""
