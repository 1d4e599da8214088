"""The words that everything else is written in: classes, panoptic maps, runs of equal pixels."""
