"""`campaign`: how often a promise is tried, and where the record of it goes."""

from pathlib import Path

import pytest
from campaign import Campaign


@pytest.fixture
def campaign(pytestconfig, tmp_path):
  kept = pytestconfig.getoption("campaigns")
  folder = Path(kept).resolve() if kept else tmp_path / "campaigns"
  return Campaign(folder, pytestconfig.getoption("thorough"))
