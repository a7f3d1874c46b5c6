"""From predictions to what a person can judge: metrics with intervals, calibration, plots, reports."""
