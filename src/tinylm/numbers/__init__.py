"""Number formats of weights: how a matrix is kept in fewer bits, and what it then stands for."""
