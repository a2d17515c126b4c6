"""Self-Instruct (Wang et al. 2023): a model writes the instructions that it is then tuned on.

A few seed tasks are shown to a writer, which adds new ones (``instructions``); it says which of
them are classification (``classification``), writes instances of each, the input first or the
answer first (``instances``), and filters keep what can be used (``filters``). Each step is a
function of what the step before it left and of a seed, one file each; ``experiments`` keeps what
comes of it.
"""
