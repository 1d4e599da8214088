"""What prediction gives: the one result type, its measurements, and the files that it becomes."""
