"""Settings as data: their schema, presets, and their page in the documents."""
