"""The report: what its experiments left, drawn, put in order and written."""
