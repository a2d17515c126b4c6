"""The model's parts once more, quick: the same numbers to rounding, in less time."""
