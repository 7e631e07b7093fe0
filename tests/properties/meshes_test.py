"""Neither the devices that share a run nor the local map change its results, for every method."""

import re
from collections import Counter

import chex
import ensembles
import jax
import numpy as np
import pytest
from helpers import make_mesh, usually

from kdjax import layout
from kdjax.core.costs import nbytes
from kdjax.training import program
from kdjax.training.stepper import Dispatch

TWELVE = ((4, *ensembles.MLP), (8, *ensembles.WIDE))  # on no mesh here as many as devices
ALIKE = ((12, *ensembles.MLP),)
# The programs of 'fedgkt' are those of 'fedgkt async', in which some clients are away.
METHODS = [m for m in ensembles.METHODS if m not in (*ensembles.VARIANTS, "fedgkt")]
MESHES = {  # (mesh, map) beside (4, 2), which all are on; `--thorough` tries all of these on all
  "separate": ((4, 1), "unroll"),
  "gossip average": ((2, 2), "scan"),
  "fedavg": ((2, 1), "scan"),
}
COLLECTIVES = r"all[-_]gather|all[-_]to[-_]all|reduce[-_]scatter|collective[-_]\w+|all[-_]reduce"


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def setting(method, steps=12):
  """A config whose cohorts can be split over four devices, and whose programs are small."""
  clients = ALIKE if method in ensembles.ONE_ARCHITECTURE else TWELVE
  c = ensembles.config(method, clients, norm="batch", steps=steps)
  if method == "async edge":  # its cohorts are one core and two models at an edge a replica
    c.clients, c.replicas = ((3, *ensembles.MLP),), 4
  if method == "pairwise":
    c.graph.kind = "random_regular"  # two sources a client
  return c


def trained(c, mesh, local_map, monkeypatch=None):
  """(experiment, every client's weights and statistics, its programs)."""
  if monkeypatch:  # a mesh that need not be the one that `layout` would choose
    monkeypatch.setattr(layout, "make_mesh", lambda *_: make_mesh(*mesh))
  e = ensembles.build(c, mesh=np.prod(mesh), local_map=local_map)
  assert tuple(e.env.mesh.shape.values()) == mesh
  state, programs = ensembles.train(e)
  return e, (ensembles.by_client(e, state), jax.device_get(state.server)), programs


USUALLY = ("fedavg", "mhd pool", "fedgkt async", "pairwise", "async edge", "gossip average")


@pytest.mark.parametrize("method", usually(USUALLY, METHODS))
def test_every_mesh_and_map_gives_what_one_device_gives(method, monkeypatch, pytestconfig):
  """And what the compiled programs of eight devices hold: see `check_compiled`."""
  _, reference, _ = trained(setting(method), (1, 1), "vmap")
  e, eight, stepper = trained(setting(method), (4, 2), "scan")
  check_compiled(e, stepper)
  others = {MESHES[method]} if method in MESHES else set()
  if pytestconfig.getoption("thorough"):
    others = set(MESHES.values())
  found = [trained(setting(method), mesh, local_map, monkeypatch)[1] for mesh, local_map in others]
  for weights in (eight, *found):
    chex.assert_trees_all_close(weights, reference, rtol=1e-10, atol=1e-12)


def check_compiled(e, stepper):
  """The compiler adds no communication, the state is donated, and nothing calls the host.

  What a phase leaves as it is goes past its program; all else of the state is written in place.
  """
  state = e.shapes()
  for visit in {v.number: v for v in e.visits}.values():
    arguments = (*stepper.inputs(Dispatch(visit, 0, 1)), stepper.tables)
    lowered = program.jitted(e, visit.phase).lower(state, *arguments)
    compiled = e.programs[visit.number]
    text = compiled.as_text()
    written = Counter(re.findall(rf"stablehlo\.({COLLECTIVES})\b", lowered.as_text()))
    kept = re.findall(rf" ({COLLECTIVES})(?:-start)?\(", text)
    assert Counter(k.replace("-", "_") for k in kept) <= written
    memory, (_, aux) = compiled.memory_analysis(), lowered.out_info
    new = memory.output_size_in_bytes - memory.alias_size_in_bytes
    pointers = 8 * len(jax.tree.leaves(lowered.out_info))
    assert new <= nbytes(aux) + pointers
    assert not re.search(r"callback| (infeed|outfeed|send|recv)\(", text)
