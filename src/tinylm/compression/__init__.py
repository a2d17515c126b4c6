"""Smaller models: what is removed from a model's maps, and how they are rounded."""
