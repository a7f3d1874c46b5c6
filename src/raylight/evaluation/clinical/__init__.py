"""What a decision in practice needs to know of probabilities: net benefit and recalibration, for two classes."""
