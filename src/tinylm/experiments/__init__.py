"""One file an experiment: what is run, and the table or figure that comes out."""
