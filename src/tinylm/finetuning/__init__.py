"""Fine-tuning with few parameters: one method a file, every method attached in the same way."""
