"""Ids to more ids: one step function and the strategies that use it."""
