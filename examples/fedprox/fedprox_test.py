"""FedProx under the properties that every method has."""

import pytest

from kdjax import testing

CASE = testing.Case(method="fedprox:METHOD", algo=dict(mu=0.1, local_steps=3))


@pytest.mark.parametrize("name", testing.PROPERTIES)
def test_fedprox(name):
  """It has the property."""
  testing.check(name, CASE)
