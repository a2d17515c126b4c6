"""A model is aligned with preferences or rewards: one method a file, registry ALIGNMENTS."""
