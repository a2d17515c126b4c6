"""A smaller model is trained to do as a larger one: one method a file, registry DISTILLATIONS."""
