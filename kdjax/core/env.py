"""The static description of the ensemble that every method gets, and movement between devices.

Everything here runs on one device's share: the mesh's `client` axis splits the clients of every
cohort, its `data` axis splits every batch. `sharded` alone sets `check_vma=False`. With it a
gradient holds only this device's addend until it is summed over `data`.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Bool, Float, Int, Key, Shaped

from kdjax.core import mapping
from kdjax.core.arrays import Array
from kdjax.core.graph import Schedule
from kdjax.core.passes import eval_mode
from kdjax.core.random import EVERYONE, client_key
from kdjax.types import Cohort, Pos, PyTree, TrainState


@dataclasses.dataclass(frozen=True)
class Population:
  """The clients and holders; R replicas of the same ensemble run side by side."""

  K: int  # clients of one replica
  holders: int  # holders of private data in one replica; K, unless models travel
  seeds: tuple[int, ...]  # of the R replicas
  identity: tuple[int, ...]  # [K], the name each client draws under: its number, unless permuted


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
  """The classification task, and the number of examples."""

  image: tuple[int, ...]  # the shape of an example as a model sees it, [h, w, c] or [features]
  classes: int
  private_sizes: np.ndarray  # i64[R*holders], private examples
  label_counts: np.ndarray  # i64[R*holders, C], private examples of each class
  public_sizes: np.ndarray  # i64[R], public examples
  public_labels: bool  # whether methods get the labels of public examples
  public_share: float = 0.0  # the config's, for the error where no example is public


@dataclasses.dataclass(frozen=True)
class Training:
  """Batch sizes, the length of the run, the learning rate, and the treatment of faults."""

  batch: int  # private examples per client and step
  public_batch: int  # public examples per client and step
  steps: int  # training batches of the whole run; 0 where the config counts rounds
  lr: Callable[[int, int], float]  # (count, total) -> the schedule of config.optim
  fault: str  # what happens to a client whose numbers are not finite, see core/health.py


class Hostile(NamedTuple):
  """The clients of every replica that send falsified models, and how (core/hostile.py)."""

  kind: str
  clients: tuple[int, ...]
  scale: float  # the size of the falsified logits


@dataclasses.dataclass(frozen=True, eq=False)
class Env:
  """The static description of the ensemble that every method gets."""

  cohorts: tuple[Cohort, ...]  # the clients that train in this program
  ensemble: tuple[Cohort, ...]  # all clients; equal to `cohorts`, except in a peer (kdjax/peers)
  population: Population
  graph: Schedule  # edges from student to teacher, over the holders
  task: Task
  training: Training
  heads: tuple[str, ...]
  dtype: str  # of the examples
  mesh: Mesh
  local_map: str  # one of `mapping.MAPS`
  scan: bool = False  # whether identical blocks are a loop, in networks that offer it
  hostile: Hostile = Hostile("none", (), 0.0)

  @property
  def K(self) -> int:
    """Clients of one replica."""
    return self.population.K

  @property
  def R(self) -> int:
    """Replicas."""
    return len(self.population.seeds)

  @property
  def clients(self) -> int:
    """All clients, R * K."""
    return self.R * self.K

  @property
  def liars(self) -> tuple[int, ...]:
    """The hostile clients of every replica, 0..K-1; means over clients leave them out."""
    return () if self.hostile.kind == "none" else self.hostile.clients

  def rate(self, pos: Pos) -> float:
    """The learning rate of a phase whose schedule counts its batches over the whole run."""
    return self.training.lr(pos.phase_call, pos.phase_calls)

  @property
  def local_ids(self) -> tuple[int, ...]:
    """Global numbers of the clients that train here, ascending; all clients, except in a peer."""
    return tuple(sorted(k for c in self.cohorts for k in c.ids))

  @property
  def local_holders(self) -> tuple[int, ...]:
    """The holders whose private data this process has; all, except in a peer."""
    return self.local_ids if self.is_peer else tuple(range(self.R * self.population.holders))

  @property
  def is_peer(self) -> bool:
    """Whether other clients of the ensemble train in other processes."""
    return len(self.local_ids) < self.clients

  def snapshots(self) -> tuple[tuple[PyTree, PyTree], ...]:
    """Per cohort of the ensemble: shapes of one client's snapshot, (params, model_state)."""
    return tuple((c.template.params, c.template.model_state) for c in self.ensemble)

  def placed(self, g: int) -> Int[Array, "devices K_g"]:
    """Global numbers i32[n, K_g] of the clients of cohort g on each device of the client axis."""
    ids = jnp.asarray(self.cohorts[g].ids, jnp.int32)
    return ids.reshape(self.mesh.shape["client"], -1)

  def ids(self, g: int) -> Int[Array, " K_g"]:
    """Global numbers i32[K_g] of the clients of cohort g on this device."""
    return self.placed(g)[jax.lax.axis_index("client")]

  def local_rows(
    self, g: int, x: Shaped[Array | np.ndarray, "clients ..."]
  ) -> Shaped[Array, "K_g ..."]:
    """This device's rows [K_g, ...] of x [R*K, ...]."""
    return jnp.asarray(x)[self.ids(g)]

  def keys(self, g: int, purpose: str, step: jax.Array | int) -> Key[Array, " K_g"]:
    """key[K_g]: each client's own key for a purpose at a step."""
    return self.keys_of(self.ids(g), purpose, step)

  def keys_of(self, ids: Int[Array, " n"], purpose: str, step: jax.Array | int) -> Key[Array, " n"]:
    """key[n]: each client's own key for a purpose at a step; ids i32[n] are global numbers."""
    seed = jnp.repeat(jnp.asarray(self.population.seeds), self.K)[ids]
    name = jnp.tile(jnp.asarray(self.population.identity), self.R)[ids]
    return jax.vmap(lambda s, c: client_key(s, purpose, step, c))(seed, name)

  def common_keys(self, g: int, purpose: str, step: jax.Array | int) -> Key[Array, " K_g"]:
    """key[K_g]: one key shared by all clients of a replica, different from every client's own."""
    return self.common_keys_of(self.ids(g), purpose, step)

  def common_keys_of(
    self, ids: Int[Array, " n"], purpose: str, step: jax.Array | int
  ) -> Key[Array, " n"]:
    """key[n]: as `common_keys`, for clients with global numbers i32[n]."""
    seed = jnp.repeat(jnp.asarray(self.population.seeds), self.K)[ids]
    return jax.vmap(lambda s: client_key(s, purpose, step, EVERYONE))(seed)

  def map_clients(self, fn: Callable, *args: PyTree) -> PyTree:
    """Applies `fn` to every client of this device by the local map."""
    return mapping.map_clients(self.local_map, fn, *args)

  def gather(self, xs: tuple[PyTree, ...] | list[PyTree]) -> PyTree:
    """All clients' values in client order, on every device; in a peer, those of `local_ids`.

    Args:
      xs: tuple over cohorts of pytrees with leaves [K_g, ...], equal in shape beyond K_g.

    Returns:
      A pytree with leaves [R*K, ...].
    """
    order = np.argsort(np.concatenate([c.ids for c in self.cohorts]))

    def join(*parts):
      whole = [jax.lax.all_gather(x, "client", tiled=True) for x in parts]
      return jnp.concatenate(whole)[order]

    return jax.tree.map(join, *xs)

  def fetch(
    self,
    xs: tuple[jax.Array, ...],
    wanted: tuple[jax.Array, ...],
    edges: Bool[np.ndarray, "K K"],
  ) -> tuple[jax.Array, ...]:
    """Each client's copies of other clients' values, by rings over the `client` axis.

    Values travel in both directions, each as far as the longest edge needs: on a cycle to the next
    device, on a complete graph past all of them. A device holds its own values and those that pass
    by, where gathering would hold all.

    Args:
      xs: tuple over the first cohorts, those whose values are wanted, of arrays [K_g, ...], equal
        in shape beyond K_g.
      wanted: a tuple of requests, one per cohort or several of one cohort, i32[K_g] or
        i32[K_g, S]: global client numbers; -1 fetches zeros.
      edges: bool[K, K], the static superset of the requests within a replica: row i is true for the
        clients that client i may request beside itself.

    Returns:
      A tuple over the requests of arrays [K_g, ...] or [K_g, S, ...].
    """
    n = self.mesh.shape["client"]
    device = jax.lax.axis_index("client")
    ahead, behind = self.reach(edges)
    out = tuple(jnp.zeros((*w.shape, *xs[0].shape[1:]), xs[0].dtype) for w in wanted)
    for h, x in enumerate(xs):
      out = _taken(out, wanted, x, self.ids(h))
      ids = self.placed(h)
      for hops, step in ((ahead, 1), (behind, -1)):
        ring = [(i, (i - step) % n) for i in range(n)]

        def turn(hop, carried, ring=ring, step=step, ids=ids):
          passing, out = carried
          passing = jax.lax.ppermute(passing, "client", ring)
          return passing, _taken(out, wanted, passing, ids[(device + step * (hop + 1)) % n])

        # A loop, because an unrolled program keeps every passing value until the end.
        _, out = jax.lax.fori_loop(0, hops, turn, (x, out))
    return out

  def reach(self, edges: Bool[np.ndarray, "K K"]) -> tuple[int, int]:
    """(ahead, behind): the most devices that an edge spans in each direction, the shorter way."""
    n = self.mesh.shape["client"]
    device = np.zeros(self.clients, int)
    for cohort in self.ensemble if self.is_peer else self.cohorts:
      device[list(cohort.ids)] = np.repeat(np.arange(n), len(cohort.ids) // n)
    student, teacher = np.nonzero(edges)
    replica = self.K * np.arange(self.R)[:, None]
    shift = (device[replica + teacher] - device[replica + student]) % n
    ahead, behind = shift <= n // 2, n - shift
    return int((shift * ahead).max(initial=0)), int((behind * ~ahead).max(initial=0))

  def of_all(self, xs: tuple[jax.Array, ...], wanted: tuple[jax.Array, ...]) -> tuple:
    """`fetch` from values of the whole ensemble that are equal on every device.

    Args:
      xs: tuple over `ensemble` of arrays [n_g, ...], equal in shape beyond n_g.
      wanted: as for `fetch`.
    """
    order = np.argsort(np.concatenate([c.ids for c in self.ensemble]))
    whole = jnp.concatenate(xs)[order]
    exists = lambda w: jnp.expand_dims(w >= 0, range(w.ndim, w.ndim + whole.ndim - 1))
    return tuple(jnp.where(exists(w), whole[w], 0) for w in wanted)

  def own(self, trees: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
    """The rows of the clients that train in this program, over `cohorts`.

    Args:
      trees: pytrees over `ensemble`, equal on every device.
    """
    out = []
    for g, cohort in enumerate(self.cohorts):
      h = next(h for h, c in enumerate(self.ensemble) if cohort.ids[0] in c.ids)
      rows = jnp.searchsorted(jnp.asarray(self.ensemble[h].ids), self.ids(g))
      out.append(jax.tree.map(lambda x, rows=rows: x[rows], trees[h]))
    return tuple(out)

  def predict(
    self, state: TrainState, images: Float[Array, "N ..."]
  ) -> dict[str, tuple[jax.Array, ...]]:
    """Every client's logits: {'': tuple over cohorts of f32[K_g, N, H, C]}; images f32[N, ...]."""

    def of_cohort(cohort, client):
      return self.map_clients(lambda c: eval_mode(cohort.model, c, images).logits, client)

    return {"": tuple(map(of_cohort, self.cohorts, state.clients))}


def _taken(out, wanted, x, ids):
  """`out` with the values x [K_h, ...] of clients i32[K_h] filled in where they are wanted."""
  hit = tuple(w[..., None] == ids for w in wanted)  # [K_g, (S,) K_h]
  return tuple(
    jnp.where(jnp.expand_dims(m.any(-1), range(m.ndim - 1, o.ndim)), x[m.argmax(-1)], o)
    for o, m in zip(out, hit, strict=True)
  )


STATE = TrainState(calls=P(), clients=P("client"), local=P("client"), server=P())  # type: ignore[arg-type]
DRAWN = P("client", "data")  # every leaf of a Drawn is [K_g, B, ...]


def sharded(env: Env, fn: Callable, in_specs: PyTree, out_specs: PyTree) -> Callable:
  """`fn` over the mesh, fully manual; specs are prefixes of the arguments' pytrees."""
  return jax.shard_map(fn, mesh=env.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
