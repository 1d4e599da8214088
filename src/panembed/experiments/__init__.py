"""Tables over variants x seeds: what is asked for, carrying it out, and its results."""
