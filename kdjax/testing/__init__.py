"""The properties that every method must have, as tests for your own method too.

A conftest.py makes CPU devices before JAX is used, and a test runs every property on a `Case`:

  from kdjax import testing

  testing.devices(8)                                                       # in conftest.py

  CASE = testing.Case(method="fedprox:METHOD", algo=dict(mu=0.1, local_steps=3))

  @pytest.mark.parametrize("name", testing.PROPERTIES)
  def test_fedprox(name):
    testing.check(name, CASE)
"""

from kdjax.testing.case import Case, Sizes
from kdjax.testing.properties import PROPERTIES, check
from kdjax.testing.small import devices

__all__ = ["PROPERTIES", "Case", "Sizes", "check", "devices"]
