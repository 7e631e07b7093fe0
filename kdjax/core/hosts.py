"""Several processes that run one program: which of them writes, and what each of them holds.

Every process runs the same loop on the same config, and the mesh spans the devices of all. With one
process these functions do not communicate.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool

from kdjax.types import PyTree


def first() -> bool:
  """Whether this is the process that writes the files of the run."""
  return jax.process_index() == 0


def alone() -> bool:
  """Whether this is the only process."""
  return jax.process_count() == 1


def place(mesh: Mesh, specs: tuple[PyTree, ...], trees: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
  """Host arrays as arrays of the whole mesh; every process fills the parts of its own devices.

  Args:
    mesh: Mesh.
    specs: a tuple of PartitionSpec pytrees, each a prefix of the tree in the same place.
    trees: a tuple of pytrees of whole NumPy arrays.

  Returns:
    The pytrees; with one process they stay as they are, for `jit` to place.
  """
  if jax.process_count() == 1:
    return trees
  put = lambda spec, x: jax.make_array_from_callback(
    np.shape(x), NamedSharding(mesh, spec), lambda index: np.asarray(x)[index]
  )
  spread = lambda spec, tree: jax.tree.map(lambda x: put(spec, x), tree)
  is_spec = lambda x: isinstance(x, PartitionSpec)
  return jax.tree.map(spread, specs, trees, is_leaf=is_spec)


def fetch(tree: PyTree) -> PyTree:
  """Arrays of the mesh as whole NumPy arrays, on every process."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  return jax.tree.map(lambda x: _whole(x), tree)


def _whole(x):
  if x.is_fully_replicated:
    return np.asarray(x)
  return np.asarray(multihost_utils.process_allgather(x, tiled=True))


class AnyProcess:
  """Whether a flag is set in any process; all processes have to ask equally often.

  With several processes, the answer is the one to the previous question. It travels while a step
  computes, so that no process waits for it.
  """

  def __init__(self, *, first: bool):
    """`first` is the answer to the first question."""
    self._pending: jax.Array | None = None
    self._first = first

  def __call__(self, flag: bool) -> bool:
    """Asks, and returns the answer to the previous question."""
    if jax.process_count() == 1:
      return flag
    previous, self._pending = self._pending, _any(flag)
    return self._first if previous is None else bool(previous.addressable_data(0))


def _any(flag):
  """bool[], computed asynchronously: whether the flag is set in any process."""
  mesh = Mesh(np.array(jax.devices()), ("all",))
  flags = jax.make_array_from_callback(
    (mesh.size,), NamedSharding(mesh, PartitionSpec("all")), lambda index: np.full(1, flag)
  )
  return jax.jit(jnp.any, out_shardings=NamedSharding(mesh, PartitionSpec()))(flags)


def holds(mesh: Mesh, clients: int, examples: int) -> Bool[np.ndarray, "clients examples"]:
  """bool[clients, examples]: the examples of a cohort's batch that this process's devices need.

  Args:
    mesh: Mesh with axes (`client`, `data`).
    clients: of one cohort; the client axis splits them evenly.
    examples: per client; the data axis splits them evenly.
  """
  own = np.vectorize(lambda d: d.process_index == jax.process_index())(mesh.devices)
  rows, columns = np.array([clients, examples]) // own.shape
  return np.kron(own, np.ones((rows, columns), bool)).astype(bool)
