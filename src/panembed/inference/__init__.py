"""Prediction: from an image to a panoptic map, with any backend."""
