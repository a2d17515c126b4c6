"""The report's sections, one a file: results in, blocks out."""
