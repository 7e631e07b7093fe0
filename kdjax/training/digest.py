"""Digests of a state's arrays, one per client: what was saved is what is restored, on any mesh.

A digest has 64 bits and is made of two sums. The first adds words of a row that lie WIDTH apart,
modulo 2**64. The second adds the halves of these sums, each times an odd number of its own. Damage
of one word is always noticed, other accidents are missed once in billions. An attacker is not kept
out. The digest costs one pass over memory; a cryptographic one would cost as much as the writing.
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
  """The digests u64[K] of the K rows of an array [K, ...]."""
  x = np.ascontiguousarray(x).reshape(len(x), -1)
  words = x.view(next(f"u{n}" for n in (8, 4, 2, 1) if x.shape[1] * x.itemsize % n == 0))
  width = min(WIDTH, words.shape[1])
  whole = words.shape[1] // max(width, 1) * width
  sums = words[:, :whole].reshape(len(x), -1, max(width, 1)).sum(axis=1, dtype=np.uint64)
  sums[:, : words.shape[1] - whole] += words[:, whole:]
  halves = sums.view(np.uint32).astype(np.uint64)
  return np.einsum("kw,w->k", halves, FACTORS[: halves.shape[1]])


def table(tree: PyTree, whole: tuple[str, ...] = ()) -> dict[str, list]:
  """A checkpoint's table of its arrays: {path: [dtype, shape, digests in hexadecimal]}.

  Args:
    tree: a tree of arrays of the mesh; every process digests its own rows and receives all digests.
    whole: top-level keys under which an array is one row, instead of one row per client.
  """
  named = [(path, x, path.split("/")[0] in whole) for path, x in _named(tree)]
  with ThreadPoolExecutor() as threads:  # NumPy's sums release the interpreter's lock
    own = list(threads.map(lambda entry: _own(*entry[1:]), named))
  everyone = np.split(agreement.added(np.concatenate(own)), np.cumsum([len(d) for d in own])[:-1])
  return {
    path: [*_kind(x), digests.astype(">u8").tobytes().hex()]
    for (path, x, _), digests in zip(named, everyone, strict=True)
  }


def kinds(tree: PyTree) -> dict[str, list]:
  """{path: [dtype, shape]} of a tree of arrays or of their shapes."""
  return {path: _kind(x) for path, x in _named(tree)}


def differing(now: dict[str, list], saved: dict[str, list]) -> str:
  """The first array and row in which two tables differ, or ''."""
  for path, (*_, saved_digests) in saved.items():
    digests = now[path][-1]
    for k in range(len(saved_digests) // DIGITS):
      digest = slice(DIGITS * k, DIGITS * (k + 1))
      if digests[digest] != saved_digests[digest]:
        return f"{path}, row {k}"
  return ""


def _named(tree):
  """[(path, array)] in the tree's order; paths such as '0/params/Dense_0/kernel'."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return [(jax.tree_util.keystr(path, simple=True, separator="/"), x) for path, x in leaves]


def _kind(x):
  return [str(x.dtype), list(x.shape)]


def _own(x, whole):
  """The digests of an array's rows, 0 for rows that another process digests."""
  if not isinstance(x, jax.Array):  # every process has all of it, and the first one digests it
    digests = rows(x[None] if whole else x)
    return digests if hosts.first() else np.zeros_like(digests)
  digests = np.zeros(1 if whole else len(x), np.uint64)
  for shard in x.addressable_shards:
    if shard.replica_id == 0:
      held = np.asarray(shard.data)
      digests[slice(None) if whole else shard.index[0]] = rows(held[None] if whole else held)
  return digests
