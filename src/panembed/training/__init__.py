"""Learning: augmentation, the loop, checkpoints, logs."""
