"""A small story world: lexicon, state, plots and the sentences that tell what happens."""
