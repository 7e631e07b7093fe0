"""Configs with one wrong value, drawn from the schema, the methods' own and the optimisers' fields.

A new key, method or hyper-parameter is drawn as soon as it is there.
"""

import functools
import random
from math import inf, nan
from typing import Any, NamedTuple

from helpers import FIVE_SMALL

from kdjax import api
from kdjax.config import flat, plain, schema
from kdjax.plugins import find_method

BASES = (
  *("mhd_digits", "fedgkt_digits", "pairwise_digits", "async_edge_digits", "fedmd_digits"),
  *(f"mhd_digits:{name}" for name in ("separate", "fedavg", "kd", "gossip")),
)
SMALL = {"replicas": 1, "compare": ()}  # of every base
NUMBER = (nan, inf, -inf, -1, 10**12, 10**400, 1e39, "text", None, (), {}, ((nan,),))
CERTAIN: dict[type, tuple] = {  # values that no key of a type takes
  bool: (1, 0.5, nan, "yes", None, (), {}),
  int: (*NUMBER, 0.5, True),
  float: NUMBER,  # True becomes 1.0 as it is set
  str: (5, nan, None, (), {}, True, "no such name", "\u2603", "a\nb", "x" * 5000, "\0"),
  list: (5, nan, "text", None, {"a": 1}, (nan,), (10**12,), ({"a": inf},)),
  dict: (5, nan, "text", (), (1, 2), {"no such key": nan}),
}
PERHAPS: dict[type, tuple] = {  # values that some do: refused, or a step is taken
  bool: (),
  int: (0, 1, 3, 10**9),
  float: (0.0, 1e-30, 2, 1e30),
  str: ("",),
  list: ((), ((((),),),), (None,), ("text",), (0,), (1, 2, 3)),
  dict: ({}, {"no such key": 1}),
}


VAST = ("source_resident_bytes", "skew")  # keys that take large numbers


class Case(NamedTuple):
  """A base config with one other value."""

  base: str
  key: str
  value: Any
  certain: bool  # whether it must be refused


@functools.cache
def fields(base: str) -> dict[str, Any]:
  """{dotted key: usual value} of all that a config of a base says, groups and leaves."""
  config = plain(api.get_config(base))
  usual = dict(schema()) | {key: config[key] for key in ("algo", "optim", "model", "evals")}
  defaults = find_method(config["algorithm"]).hyper.__dataclass_fields__
  assert set(config["algo"]) <= set(defaults), "a base names all hyper-parameters"
  usual |= {k: v for k, v in flat(usual).items() if not k.startswith("baselines.")}
  return dict(sorted(usual.items(), key=lambda item: item[0]))


def draw(number: int) -> Case:
  """Case `number`, always the same."""
  rng = random.Random(number)
  base = BASES[number % len(BASES)]
  key, usual = rng.choice(list(fields(base).items()))
  kind = type(plain(usual))
  certain = rng.random() < 0.85 or not PERHAPS[kind]
  value = rng.choice((CERTAIN if certain else PERHAPS)[kind])
  return Case(base, key, value, certain and not (key in VAST and value in (inf, 10**12, 1e39)))


def config(case: Case) -> Any:
  """The case's config; as a flag or a file would set it."""
  clients = {"clients": FIVE_SMALL} if case.base.startswith("mhd") else {}
  return api.get_config(case.base, **SMALL | clients | {case.key: case.value})
