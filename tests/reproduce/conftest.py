"""A folder for runs, and the toy paper in place of the real ones."""

import pytest
from toy_paper import PAPER

from kdjax.reproduce import cli, documents
from kdjax.reproduce.runs import Asked


@pytest.fixture
def asked(tmp_path):
  return Asked(tmp_path, "tiny", 5, None)


@pytest.fixture
def toy(monkeypatch):
  """The only paper there is."""
  for place in (cli, documents):
    monkeypatch.setattr(place, "named", lambda: {"toy": PAPER})
