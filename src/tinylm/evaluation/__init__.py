"""Measures of a model and of its text."""
