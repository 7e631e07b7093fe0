"""The property kit finds mistakes, says what they are, and what a method has to declare."""

import unittest

import pytest

from kdjax import testing
from kdjax.testing import small


def case(name, **declared):
  return testing.Case(method=f"broken:{name}", **declared)


FOUND = [
  ("LOCAL_MEAN", {}, "meshes agree", "is a loss a `share` of the whole batch"),
  ("LOCAL_MEAN_ALIKE", {}, "meshes agree", "is a loss a `share` of the whole batch"),
  ("NO_GRAPH_DECLARED", {}, "graph is kept", r"declare Case\(along_graph=True\)"),
  ("GATHERS", {}, "work is shared", r"phase 'train' sends .*all_gather.*declare messages="),
  ("GATHERS", dict(along_graph=True), "graph is kept", "flows against the graph"),
  ("GATHERS", {}, "bytes are counted", "not counted: give their phases a Phase.bytes_sent"),
  ("ACROSS", {}, "replicas fold", "replicas mix"),
  ("BY_PLACE", {}, "names are kept", "results depend on a client's place"),
  ("COUNTS", {}, "bytes are counted", "bytes are counted, but Case.messages says that nothing"),
  ("NO_RATE", {}, "structure is kept", r"clients \[.*\] end as they began"),
  ("COUNTS", dict(messages={"trian": {}}), "work is shared", "names phases {'trian'}"),
]


@pytest.mark.parametrize(
  "name, declared, prop, message", FOUND, ids=[f"{n} {p}" for n, _, p, _ in FOUND]
)
def test_a_mistake_is_found_and_said(name, declared, prop, message):
  with pytest.raises(AssertionError, match=f"(?s){message}"):
    testing.check(prop, case(name, **declared))


def test_a_property_that_does_not_apply_is_skipped():
  with pytest.raises(unittest.SkipTest, match="along_graph"):
    testing.check("graph is kept", case("GATHERS"))


def test_an_average_that_does_not_say_so_is_told_what_to_declare():
  with pytest.raises(ValueError, match="too many values") as found:
    testing.check("structure is kept", case("UNDECLARED_AVERAGE"))
  assert "one_architecture=True" in found.value.__notes__[-1]


def test_what_is_right_passes_beside_a_mistake():
  for prop in ("structure is kept", "names are kept", "sums are few"):
    testing.check(prop, case("COUNTS"))


def test_too_few_devices_say_how_to_get_more():
  with pytest.raises(RuntimeError, match=r"9 devices are needed, .*testing.devices\(8\)"):
    small.build(small.config(testing.Case(method="separate")), mesh=9)
