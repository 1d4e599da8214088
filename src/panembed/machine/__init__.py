"""The machine that runs us: its memory, signals, cores and versions."""
