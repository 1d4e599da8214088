"""Assertions of the contract are explained as those of the tests that derive from it."""

import pytest

pytest.register_assert_rewrite("layout_contract")
