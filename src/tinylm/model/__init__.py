"""The decoder, from basic parts: tensors in, tensors out."""
