"""Losses: the discriminative loss on embeddings and its sum with the cross-entropy on classes."""
