"""Results for people: metrics with intervals, calibration, plots, reports."""
