"""Formulas of cost: parameters, FLOPs, memory."""
