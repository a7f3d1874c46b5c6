"""Numbers only: predictions, metrics with their intervals, paired tests, calibration, decisions."""
