"""Results in the formats of other programs: one file a format, each with an exporter that `panembed predict` drives."""
