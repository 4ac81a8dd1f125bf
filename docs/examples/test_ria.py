import pytest


@pytest.mark.method("ria")
def test_contract(verdict):
    assert verdict.holds, verdict
