"""Tests of ``tinylm.planning``."""

import pytest

pytest.register_assert_rewrite("tests.planning.measured")
