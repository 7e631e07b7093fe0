"""What a step holds: no waste by sharding, no message but the method's own, no call to the host.

Everything here reads programs as they are written, before compilation; what the compiler makes of
them is in meshes_test.py. A device's share of a batch is b examples, of a cohort k clients.
"""

import re
from collections import Counter

import ensembles
import pytest

from kdjax import plan
from kdjax.core import snapshots

NETWORKS = (  # large beside lists of labels and rows
  ("mlp", dict(hidden=(32,), activation="tanh")),
  ("mlp", dict(hidden=(40, 32), activation="relu")),
)
SERVER = ("mlp", dict(hidden=(64, 64), activation="tanh"))
# Settings that the programs of another one contain are left out.
SAME = set(ensembles.VARIANTS) - {"mhd top-k"} | {"fedgkt async"}
METHODS = [m for m in ensembles.METHODS if m not in SAME]
every_method = pytest.mark.parametrize("method", METHODS)
BATCHES = ("private_batch", "digest_batch", "server_batch")
ALONE = re.compile(r'"stablehlo\.(all_gather|all_to_all|collective_\w+)"\(.* : \((.*?)\) ->')
REDUCE = re.compile(r'"stablehlo\.(all_reduce|reduce_scatter)".*?\n *\}\) : \((.*?)\) ->', re.S)


def config(method, clients, norm, scale=1):
  """Two cohorts of so many clients where a method allows them; batches `scale` times as large."""
  networks = NETWORKS[:1] if method in ensembles.ONE_ARCHITECTURE else NETWORKS
  entries = tuple((clients, *network) for network in networks)
  c = ensembles.config(method, entries, norm=norm, dtype="float32", steps=60)
  c.mesh.steps_per_dispatch = 1
  c.batch = c.public_batch = 8 * scale
  for key in BATCHES:
    if key in c.algo:
      c.algo[key] *= scale
  if c.algorithm == "fedgkt":
    c.algo.server = (SERVER[0], SERVER[1] | dict(norm=norm, dtype="float32", project=0))
  if c.algorithm == "async_edge":  # one core a replica
    c.clients, c.replicas = ((3, *NETWORKS[0]),), clients
  return c


def lowered(c, mesh, local_map):
  """(Env, {phase: its program for `mesh` devices, lowered})."""
  e = ensembles.build(c, mesh=mesh, local_map=local_map)
  return e.env, {v.phase.name: plan.lower(e, v) for v in plan.first_visits(e)}


def collectives(program):
  """Counter of (kind, shape and dtype of what one device hands over)."""
  text = program.as_text()
  return Counter((kind, of) for rx in (ALONE, REDUCE) for kind, of in rx.findall(text))


def sums(program):
  """The all-reduces among `collectives`."""
  return Counter({k: n for k, n in collectives(program).items() if k[0] == "all_reduce"})


def messages(env):
  """{method: {phase: {kind: shapes}}} of all that one device hands over beside sums.

  On (2, 4) devices, of cohorts of two clients: k is 1, b an eighth of two batches.
  """
  k, b, S = 1, 2, 16
  m, C, F = 2, ensembles.CLASSES, 32
  L = snapshots.length(env)
  model = {(k, L), (k,)}  # and whose it is
  fetch = {"fetch": {"collective_permute": model}}
  heard = {(k, b, m, C), (k, b, F)}
  return {
    "mhd pool": {"refresh": {"collective_permute": model}},
    "mhd fresh": {"train": {"all_gather": heard}},
    "mhd published": {"train": {"all_gather": heard}},
    "mhd top-k": {"train": {"all_gather": {(k, b, m, 2), (k, b, F)}}},
    # Logits, rows and masks; then the mean of all clients, along `data`.
    "fedmd": {"consensus": {"all_gather": {(k, b, C), (k, b), (1, b, C), (1, b)}}},
    "kd": fetch,
    "pairwise": fetch,
    "gossip average": {"meet": {"collective_permute": model}},
    "fedgkt": {
      # A client's memory is the same on all devices of its `data` axis.
      "upload": {"all_gather": {(k, b, F), (k, b, C), (k, b)}},
      "server": {
        "reduce_scatter": {(1, S // 4, F), (1, S // 4, C), (1, S // 4)},
        "all_gather": {(1, S // 8, C), (1, S // 4, C)},
      },
    },
    "async edge": {
      "dispatch": {"collective_permute": model},
      "edge": {"all_gather": {(2 * k, b)}},  # labels to be permuted, and their masks
      "collect": {"collective_permute": model | {(2 * k, L), (2 * k,)}},
    },
  }


@every_method
def test_devices_share_the_work_and_hand_over_nothing_but_the_methods_messages(method):
  """FLOPs that depend on examples are those that a batch of twice the size adds."""

  def added(mesh):
    (env, once), (_, twice) = (
      lowered(config(method, 2, "batch", scale), mesh, "unroll") for scale in (1, 2)
    )
    flops = lambda program: program.cost_analysis()["flops"]
    return env, once, twice, {name: flops(twice[name]) - flops(once[name]) for name in once}

  *_, ideal = added(1)
  env, once, twice, shares = added(8)
  assert dict(env.mesh.shape) == {"client": 2, "data": 4}
  for name, program in once.items():
    assert shares[name] * 8 <= 1.05 * ideal[name]
    found = {}
    for kind, of in collectives(program) - sums(program):
      shape = tuple(int(n) for n in re.findall(r"(\d+)x", of))
      found.setdefault(kind, set()).add(shape)
    assert found == messages(env).get(method, {}).get(name, {})
    assert sums(program) == sums(twice[name])  # no sum of anything that is an example's
    assert not re.search(r"callback|infeed|outfeed|stablehlo\.(send|recv)", program.as_text())


@every_method
def test_the_number_of_sums_does_not_depend_on_the_number_of_clients(method):
  """Four devices, each with one client of a cohort or with two; BatchNorm's own left out."""
  few, many = (lowered(config(method, clients, "none"), 4, "unroll")[1] for clients in (4, 8))
  for name, program in few.items():
    assert sums(many[name]).total() == sums(program).total()


def on_mesh(local_map, mesh):
  """MHD's training step, of four convolutional clients."""
  c = ensembles.config(
    "mhd pool", ((4, "cnn", dict(widths=(8, 8))),), norm="batch", dtype="float32"
  )
  c.mesh.steps_per_dispatch, c.mesh.conv = 1, "direct"
  return lowered(c, mesh, local_map)[1]["train"]


def test_any_number_of_devices_shares_the_whole_step():
  """The optimiser's work too: it is small beside the convolutions'."""
  whole, *parts = (on_mesh("unroll", n).cost_analysis()["flops"] for n in (1, 2, 4, 8))
  for mesh, part in zip((2, 4, 8), parts, strict=True):
    assert part * mesh <= 1.05 * whole


@pytest.mark.parametrize("local_map, grouped", [("scan", False), ("unroll", False), ("vmap", True)])
def test_convolutions_are_grouped_under_vmap_only(local_map, grouped):
  """Why `auto` is not `vmap` for networks with convolutions."""
  groups = set(re.findall(r"feature_group_count = (\d+)", on_mesh(local_map, 1).as_text()))
  assert groups == ({"4"} if grouped else {"1"})
