"""Calibration of confidences: words and their labels, measures, maps, risk and coverage."""
