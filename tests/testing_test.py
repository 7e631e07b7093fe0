"""The property kit finds mistakes, says what they are, and what a method has to declare."""

import pytest

from kdjax import testing
from kdjax.testing import small


def case(name, **declared):
  return testing.Case(method=f"broken:{name}", **declared)


FOUND = [
  ("LOCAL_MEAN", {}, "meshes agree", "is a loss a `share` of the whole batch"),
  ("GATHERS", {}, "work is shared", r"phase 'train' hands over .*all_gather.*declare messages="),
  ("GATHERS", {}, "graph is kept", None),  # along_graph is not declared: it has no graph
  ("GATHERS", dict(along_graph=True), "graph is kept", "flows against the graph"),
  ("GATHERS", {}, "bytes are counted", "not counted: give their phases a Phase.sent"),
  ("ACROSS", {}, "replicas fold", "replicas meet"),
  ("BY_PLACE", {}, "names are kept", "results depend on a client's place"),
  ("COUNTS", {}, "bytes are counted", "bytes are counted, but Case.messages says that nothing"),
  ("COUNTS", dict(messages={"trian": {}}), "work is shared", "names phases {'trian'}"),
]


@pytest.mark.parametrize(
  "name, declared, prop, message", FOUND, ids=[f"{n} {p}" for n, _, p, _ in FOUND]
)
def test_a_mistake_is_found_and_said(name, declared, prop, message):
  if message is None:
    testing.check(prop, case(name, **declared))
    return
  with pytest.raises(AssertionError, match=f"(?s){message}"):
    testing.check(prop, case(name, **declared))


def test_what_is_right_passes_beside_a_mistake():
  for prop in ("structure is kept", "names are kept", "sums are few"):
    testing.check(prop, case("COUNTS"))


def test_too_few_devices_say_how_to_get_more():
  with pytest.raises(RuntimeError, match=r"9 devices are needed, .*testing.devices\(8\)"):
    small.build(small.config(testing.Case(method="separate")), mesh=9)
