"""What models are trained on, one a file; ``training.task`` says what a task is."""
