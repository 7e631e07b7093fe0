"""The properties of every method, each a function of a `Case` that fails with a hint."""

import dataclasses
from collections.abc import Callable
from unittest import SkipTest

import chex
import jax
import numpy as np

from kdjax.core.hosts import fetch
from kdjax.plugins import find_method
from kdjax.testing import faults, programs, small
from kdjax.testing.case import Case
from kdjax.training import schedule
from kdjax.training.stepper import Stepper

TWO_ARCHITECTURES = (
  "The tests train clients of two architectures. A method that averages or copies weights declares "
  "Method(..., one_architecture=True)."
)


def check(name: str, case: Case) -> None:
  """Runs one of `PROPERTIES` on a method.

  Raises:
    AssertionError: if the method lacks it; says what happened, and what to declare or mend.
    unittest.SkipTest: if the case says that it does not apply.
    KeyError: for a name that is not among them.
  """
  try:
    PROPERTIES[name](case)
  except (AssertionError, SkipTest):
    raise
  except Exception as error:
    if not find_method(case.method).one_architecture:
      error.add_note(TWO_ARCHITECTURES)
    raise


def structure_is_kept(case: Case) -> None:
  """Steps keep shapes and dtypes and stay finite, all clients learn, a saved state continues."""
  with jax.enable_x64(True):
    c = small.config(case, small.mixed(case))
    if c.graph.kind != "none":
      c.graph.kind, c.graph.every = f"{c.graph.kind},chain", 3  # graphs that take turns
    e = small.build(c)
    shape = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    first = e.init()
    shapes, begun = shape(first), jax.device_get(first.clients)
    calls = e.visits[-1].start + e.visits[-1].calls
    half, stepper = small.train(e, first, calls=calls // 2)
    restored = jax.device_put(jax.device_get(half), e.state_sharding(half))
    state, _ = small.train(e, restored, stepper=stepper)
    assert shape(state) == shapes, "a phase changes the structure, a shape or a dtype of the state"
    chex.assert_tree_all_finite((state.clients, state.local, state.server))
    for cohort, old, new in zip(e.env.cohorts, begun, jax.device_get(state.clients), strict=True):
      pairs = zip(jax.tree.leaves(old.params), jax.tree.leaves(new.params), strict=True)
      moved = np.any([(x != y).any(tuple(range(1, x.ndim))) for x, y in pairs], axis=0)
      still = np.array(cohort.ids)[~moved].tolist()
      assert not still, f"clients {still} end as they began: what does their step do?"


def meshes_agree(case: Case) -> None:
  """Eight devices with a loop over clients give the results of one device, to 1e-10."""
  with jax.enable_x64(True):
    ends = []
    for mesh, local_map in ((1, "vmap"), (8, "scan")):
      c = small.config(case, small.mixed(case), norm="batch", steps=12)
      if case.one_core:
        c.clients, c.replicas = ((3, *small.MLP),), 2
      e = small.build(c, mesh=mesh, local_map=local_map)
      state, _ = small.train(e)
      ends.append((small.by_client(e, state), fetch(state.server)))
    message = (
      "results depend on the devices: is a loss a `share` of the whole batch, is every sum over "
      "`data` taken once, are draws keyed by env.keys?"
    )
    _close(ends[1], ends[0], message, rtol=1e-10, atol=1e-12)


def replicas_fold(case: Case) -> None:
  """Two seeds side by side give the results of two runs: bit for bit under scan, in float32.

  The servers of several replicas are one batched program, which rounds differently. A method with a
  server must agree to 1e-9 in float64.
  """
  if not case.folds:
    raise SkipTest("replicas wait for each other (Case.folds)")
  message = "replicas mix: keep sums and messages within k // K, and draw by env.population.seeds"
  served = jax.tree.leaves(_halves_of_two_seeds(case, "float32", shapes=True).server)
  with jax.enable_x64(bool(served)):
    together, alone = _halves_of_two_seeds(case, "float64" if served else "float32")
  if served:
    _close(together, alone, message, rtol=1e-9, atol=1e-11)
  else:
    _equal(together, alone, message)


def _halves_of_two_seeds(case, dtype, *, shapes=False):
  """(the second seed's clients in a folded run, those in its own run); or the state's shapes."""
  source, shards = small.data(K=3, R=2)
  one, settings = ((3, *small.MLP),), dict(norm="batch", dtype=dtype)
  both = small.config(case, one, replicas=2, **settings)
  folded = small.build(both, data_=(source, shards), local_map="scan")
  if shapes:
    return folded.shapes()
  own = shards.__class__(shards.private[3:], shards.public[1:], ((),) * 3, shards.label_counts[3:])
  second = small.config(case, one, seed=1, **settings)
  e = small.build(second, data_=(source, own), local_map="scan")
  alone = small.by_client(e, small.train(e)[0])
  together = small.by_client(folded, small.train(folded)[0])
  return together[len(alone) :], alone


def graph_is_kept(case: Case) -> None:
  """On islands {0, 1} and {2, 3}, other data in one island do not change a bit in the other."""
  if not case.along_graph:
    e = small.build(small.config(case, small.mixed(case), dtype="float32"))
    assert not e.algorithm.uses_graph, "Algorithm.uses_graph is set: declare Case(along_graph=True)"
    raise SkipTest("does not learn along the graph (Case.along_graph)")
  graph = dict(kind="islands", every=0, island=2, degree=2, edges=(), seed=0)
  source, shards = small.data()
  pixels = np.array(source.train.array)
  pixels[shards.private[2]] = 255 - pixels[shards.private[2]]
  changed = source._replace(train=dataclasses.replace(source.train, array=pixels))
  c = small.config(case, graph=graph)
  if "teachers" in c.algo:
    c.algo.teachers = 1
  with jax.enable_x64(True):
    e = small.build(c, data_=(source, shards))
    other = Stepper(small.build(c, data_=(changed, shards)))
    steppers = Stepper(e), Stepper(e, other.tables)  # one program, two sets
    before, after = (small.by_client(e, small.train(e, stepper=s)[0]) for s in steppers)
  message = "information flows against the graph: client 2's data change clients 0 and 1"
  _equal(before[:2], after[:2], message)
  for k in (2, 3):  # 3 learns from 2
    same = all(map(np.array_equal, jax.tree.leaves(before[k]), jax.tree.leaves(after[k])))
    assert not same, f"client 2's data do not change client {k}: Case.along_graph says they do"


def names_are_kept(case: Case) -> None:
  """Clients draw under their own names, whatever their position in a list."""
  if not case.by_name:
    raise SkipTest("draws by place (Case.by_name)")
  order = [2, 0, 3, 1]
  source, shards = small.data(sizes=(24, 24, 24, 24))
  moved = shards.__class__(
    tuple(shards.private[i] for i in order), shards.public, ((),) * 4, shards.label_counts[order]
  )
  edges = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]
  place = {name: i for i, name in enumerate(order)}

  def trained(shards, identity, edges):
    c = small.config(case)
    if case.along_graph:
      c.graph.kind, c.graph.edges = "edges", tuple(edges)
      if "teachers" in c.algo:
        c.algo.teachers = 1
    e = small.build(c, data_=(source, shards), identity=identity)
    return small.by_client(e, small.train(e)[0])

  with jax.enable_x64(True):
    straight = trained(shards, (0, 1, 2, 3), edges)
    other = trained(moved, tuple(order), [(place[a], place[b]) for a, b in edges])
  message = "results depend on a client's place: draw by env.keys or env.population.identity"
  _close(other, [straight[name] for name in order], message, rtol=1e-9, atol=1e-12)


def work_is_shared(case: Case) -> None:
  """Eight devices share the FLOPs, and send only sums and the declared messages."""

  def added(mesh):
    (env, once), (_, twice) = (
      programs.lowered(programs.config(case, 2, "batch", scale), mesh, "unroll") for scale in (1, 2)
    )
    flops = lambda program: program.cost_analysis()["flops"]
    return env, once, twice, {name: flops(twice[name]) - flops(once[name]) for name in once}

  *_, ideal = added(1)
  env, once, twice, shares = added(8)
  messages = programs.declared(case, env)
  for name, program in once.items():
    work = shares[name] * 8
    assert work <= 1.05 * ideal[name], (
      f"phase {name!r}: eight devices do {work / max(ideal[name], 1):.2f} times the work of one: "
      "part of a batch is computed on all of them"
    )
    found = programs.handed_over(program)
    declared = messages.get(name, {})
    assert found == declared, (
      f"phase {name!r} sends {found}, Case.messages says {declared}: declare "
      f"messages={{{name!r}: {found}}}, or find the operation that gathers"
    )
    assert programs.sums(program) == programs.sums(twice[name]), (
      f"phase {name!r} sums over devices something that grows with the batch"
    )
    assert not programs.calls_host(program), f"phase {name!r} calls the host from a step"
  unknown = set(messages) - set(once)
  assert not unknown, f"Case.messages names phases {unknown}; there are {set(once)}"


def sums_are_few(case: Case) -> None:
  """The number of sums over devices does not depend on how many clients a device has."""
  few, many = (
    programs.lowered(programs.config(case, clients, "none"), 4, "unroll")[1] for clients in (4, 8)
  )
  for name, program in few.items():
    found = [programs.sums(p).total() for p in (program, many[name])]
    assert found[0] == found[1], (
      f"phase {name!r} has {found[0]} sums with one client per device, {found[1]} with two: map "
      "clients first, then sum once for all of them"
    )


def bytes_are_counted(case: Case) -> None:
  """A method counts bytes if and only if its programs send messages."""
  e = small.build(small.config(case, small.mixed(case), dtype="float32"))
  end = e.visits[-1].start + e.visits[-1].calls
  sent = sum(schedule.bytes_sent(e.algorithm, e.visits, end).values())
  messages = programs.declared(case, e.env)
  averages = find_method(case.method).one_architecture
  if messages or averages:
    assert sent > 0, "messages are sent but not counted: give their phases a Phase.bytes_sent"
  else:
    assert sent == 0, (
      f"{sent} bytes are counted, but Case.messages says that nothing is sent: declare the phase, "
      "with {} if it sends only sums"
    )


PROPERTIES: dict[str, Callable[[Case], None]] = {
  "structure is kept": structure_is_kept,
  "meshes agree": meshes_agree,
  "replicas fold": replicas_fold,
  "graph is kept": graph_is_kept,
  "names are kept": names_are_kept,
  "work is shared": work_is_shared,
  "sums are few": sums_are_few,
  "bytes are counted": bytes_are_counted,
  "faults stay": faults.stay,
}


def _close(found, expected, message, **tolerance):
  try:
    chex.assert_trees_all_close(found, expected, **tolerance)
  except AssertionError as error:
    raise AssertionError(f"{message}\n{error}") from None


def _equal(found, expected, message):
  try:
    chex.assert_trees_all_equal(found, expected)
  except AssertionError as error:
    raise AssertionError(f"{message}\n{error}") from None
