import pytest


@pytest.mark.method("mine")
def test_contract(verdict):
    assert verdict.holds, verdict
