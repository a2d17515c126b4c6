"""Text to ids and back: one tokenizer a file."""
