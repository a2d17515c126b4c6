"""Tests of tinylm, in the folders of what they test."""

import tinylm  # noqa: F401 - before torch, so that the threads of several workers do not spin
