"""Data sets: images with their panoptic truth, read from the layouts people have."""
