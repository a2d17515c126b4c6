"""Training on several processes at once: one step, shared out."""
