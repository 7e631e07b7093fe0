"""The contents of a method's programs before compilation."""

import re
from collections import Counter
from typing import Any

from kdjax import plan
from kdjax.core import snapshots
from kdjax.core.env import Env
from kdjax.plugins import find_method
from kdjax.testing import small
from kdjax.testing.case import Case, Messages, Sizes

NETWORKS = (  # large beside lists of labels and rows
  ("mlp", dict(hidden=(32,), activation="tanh")),
  ("mlp", dict(hidden=(40, 32), activation="relu")),
)
ALONE = re.compile(r'"stablehlo\.(all_gather|all_to_all|collective_\w+)"\(.* : \((.*?)\) ->')
REDUCE = re.compile(r'"stablehlo\.(all_reduce|reduce_scatter)".*?\n *\}\) : \((.*?)\) ->', re.S)


def config(case: Case, clients: int, norm: str, scale: int = 1) -> Any:
  """Two cohorts of `clients` clients, if the method allows two, with batches scaled by `scale`."""
  one = find_method(case.method).one_architecture or case.one_core
  entries = tuple((clients, *network) for network in NETWORKS[: 1 if one else 2])
  c = small.config(case, entries, norm=norm, dtype="float32", steps=60)
  c.mesh.steps_per_dispatch = 1
  c.batch = c.public_batch = 8 * scale
  for key in case.batches:
    c.algo[key] *= scale
  case.adapt(c)
  if case.one_core:
    c.clients, c.replicas = ((3, *NETWORKS[0]),), clients
  return c


def lowered(c: Any, mesh: int, local_map: str) -> tuple[Env, dict[str, Any]]:
  """(Env, {phase: its program for `mesh` devices, lowered})."""
  e = small.build(c, mesh=mesh, local_map=local_map)
  return e.env, {v.phase.name: plan.lower(e, v) for v in plan.first_visits(e)}


def collectives(program: Any) -> Counter:
  """Counts (kind, shape and dtype that one device sends) of the collectives in a program."""
  text = program.as_text()
  return Counter((kind, of) for rx in (ALONE, REDUCE) for kind, of in rx.findall(text))


def sums(program: Any) -> Counter:
  """The all-reduces among `collectives`."""
  return Counter({k: n for k, n in collectives(program).items() if k[0] == "all_reduce"})


def calls_host(program: Any) -> bool:
  """Whether a program calls the host in the middle of a step."""
  return bool(re.search(r"callback|infeed|outfeed|stablehlo\.(send|recv)", program.as_text()))


def handed_over(program: Any) -> dict[str, set[tuple[int, ...]]]:
  """{collective: shapes that one device sends}, without sums."""
  found: dict[str, set[tuple[int, ...]]] = {}
  for kind, of in collectives(program) - sums(program):
    shape = tuple(int(n) for n in re.findall(r"(\d+)x", of))
    found.setdefault(kind, set()).add(shape)
  return found


def declared(case: Case, env: Env) -> Messages:
  """The case's messages on 2 x 4 devices with two clients per cohort and a batch of 8."""
  if not callable(case.messages):
    return case.messages
  sizes = Sizes(k=1, b=2, C=env.task.classes, F=32, L=snapshots.length(env))
  return case.messages(sizes)
