"""Training on a cluster, on paper: time, memory, traffic, failures and cost of a layout."""
