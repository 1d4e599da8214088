"""Settings and folders become objects: networks, losses, trainers, runs, trained models."""
