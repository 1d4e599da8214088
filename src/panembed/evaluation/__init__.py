"""Scores of a model or of another tool's predictions against ground truth, and what an oracle would win."""
