"""Formulas: what a model costs, from its sizes alone. No torch."""
