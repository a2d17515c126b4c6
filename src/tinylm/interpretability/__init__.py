"""Methods that look inside a model, one a file."""
