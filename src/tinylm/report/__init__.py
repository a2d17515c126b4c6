"""From the experiments' results to PDF and HTML."""
