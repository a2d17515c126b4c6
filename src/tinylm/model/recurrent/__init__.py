"""Recurrent language models: cells, one a file, the layer around them, and the model of layers."""
