"""Clustering of embeddings into instances."""
