"""Digests of a state's arrays, one per client: what was saved is what is restored, on any mesh.

A digest is 64 bits of two sums. Words of a row that lie WIDTH apart are added up, modulo 2**64; the
halves of the sums, each times an odd number of its own, are added up again. Damage of one word is
always noticed, other accidents but for one in billions; who means harm is not kept out. It costs a
pass over memory, where a cryptographic digest would cost as much as the writing itself.
"""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from kdjax.core import agreement, hosts
from kdjax.types import PyTree

WIDTH = 509  # prime: whole blocks of the disk that change places land elsewhere
FACTORS = np.cumprod(np.full(2 * WIDTH, 0x9E3779B97F4A7C15, np.uint64))  # odd, and so all of them
DIGITS = 16  # of one digest, written in hexadecimal


def rows(x: np.ndarray) -> np.ndarray:
  """The digests u64[K] of an array [K, ...], a row each."""
  x = np.ascontiguousarray(x).reshape(len(x), -1)
  words = x.view(next(f"u{n}" for n in (8, 4, 2, 1) if x.shape[1] * x.itemsize % n == 0))
  width = min(WIDTH, words.shape[1])
  whole = words.shape[1] // max(width, 1) * width
  sums = words[:, :whole].reshape(len(x), -1, max(width, 1)).sum(axis=1, dtype=np.uint64)
  sums[:, : words.shape[1] - whole] += words[:, whole:]
  halves = sums.view(np.uint32).astype(np.uint64)
  return np.einsum("kw,w->k", halves, FACTORS[: halves.shape[1]])


def table(tree: PyTree, whole: tuple[str, ...] = ()) -> dict[str, list]:
  """What a checkpoint says of its arrays: {path: [dtype, shape, digests in hexadecimal]}.

  Args:
    tree: of arrays of the mesh; every process looks at its own rows, and all learn of all.
    whole: the keys at its top under which an array is one row, and not one for each client.
  """
  named = [(path, x, path.split("/")[0] in whole) for path, x in _named(tree)]
  with ThreadPoolExecutor() as threads:  # NumPy's sums let go of the interpreter
    own = list(threads.map(lambda entry: _own(*entry[1:]), named))
  everyone = np.split(agreement.added(np.concatenate(own)), np.cumsum([len(d) for d in own])[:-1])
  return {
    path: [*_kind(x), digests.astype(">u8").tobytes().hex()]
    for (path, x, _), digests in zip(named, everyone, strict=True)
  }


def kinds(tree: PyTree) -> dict[str, list]:
  """{path: [dtype, shape]} of a tree of arrays, or of what stands for them."""
  return {path: _kind(x) for path, x in _named(tree)}


def differing(now: dict[str, list], saved: dict[str, list]) -> str:
  """The first array of two tables that is not the same, and its first row that is not; or ''."""
  for path, (*_, digests) in saved.items():
    found = now[path][-1]
    for k in range(len(digests) // DIGITS):
      one = slice(DIGITS * k, DIGITS * (k + 1))
      if found[one] != digests[one]:
        return f"{path}, row {k}"
  return ""


def _named(tree):
  """[(path, array)] in the tree's order; paths such as '0/params/Dense_0/kernel'."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return [(jax.tree_util.keystr(path, simple=True, separator="/"), x) for path, x in leaves]


def _kind(x):
  return [str(x.dtype), list(x.shape)]


def _own(x, one):
  """The digests of an array's rows, 0 where another process counts them."""
  if not isinstance(x, jax.Array):  # every process has all of it: the first one counts
    mine = rows(x[None] if one else x)
    return mine if hosts.first() else np.zeros_like(mine)
  found = np.zeros(1 if one else len(x), np.uint64)
  for shard in x.addressable_shards:
    if shard.replica_id == 0:
      held = np.asarray(shard.data)
      found[slice(None) if one else shard.index[0]] = rows(held[None] if one else held)
  return found
