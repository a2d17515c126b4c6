"""Text in: corpora, token files, windows of tokens and fastText vectors."""
