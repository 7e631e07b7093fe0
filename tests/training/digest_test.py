"""Digests: every single bit counts, whatever the mesh."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax.training import digest


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 508, 1018, 1019, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "bool", "float64"])
def test_every_flipped_bit_changes_the_digest_of_its_row_alone(n, dtype):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 2, (3, n)).astype(dtype)
  before = digest.rows(x)
  places = rng.integers(0, max(1, n * x.itemsize * 8), 40) if n else ()
  for place in places:
    y = x.copy()
    y[1].view(np.uint8)[place // 8] ^= 1 << place % 8
    assert list(digest.rows(y) != before) == [False, True, False]


def test_a_digest_is_what_its_definition_says():
  """Two rows of 510 words: the first and the last lie 509 apart and are added up."""
  x = np.arange(2 * 510, dtype=np.uint64).reshape(2, 510) * (2**40 + 1)
  for row, found in zip(x, digest.rows(x), strict=True):
    sums = [int(w) for w in row[:509]]
    sums[0] += int(row[509])
    halves = [half for s in sums for half in (s % 2**32, s // 2**32 % 2**32)]
    assert found == sum(h * 0x9E3779B97F4A7C15 ** (i + 1) for i, h in enumerate(halves)) % 2**64


def test_what_cancels_in_a_sum_does_not_here():
  """Two signs flipped; two numbers, and two blocks of 4096 bytes, in each other's place."""
  x = np.random.default_rng(0).standard_normal((1, 4096)).astype(np.float32)
  signs, swapped, blocks = x.copy(), x.copy(), x.copy()
  signs[0, [1, 3]] *= -1
  swapped[0, [5, 9]] = x[0, [9, 5]]
  blocks[0, :1024], blocks[0, 1024:2048] = x[0, 1024:2048], x[0, :1024]
  for y in (signs, swapped, blocks):
    assert digest.rows(y) != digest.rows(x)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (4, 2), (1, 8)])
def test_a_table_is_the_same_on_every_mesh(shape):
  tree = {
    "clients": np.random.default_rng(0).standard_normal((4, 7)).astype(np.float32),
    "server": np.arange(6, dtype=np.int32),
  }
  expected = digest.table(tree, whole=("server",))
  mesh = Mesh(np.array(jax.devices()[: np.prod(shape)]).reshape(shape), ("client", "data"))
  specs = {"clients": PartitionSpec("client"), "server": PartitionSpec()}
  placed = {k: jax.device_put(x, NamedSharding(mesh, specs[k])) for k, x in tree.items()}
  assert digest.table(placed, whole=("server",)) == expected
  assert [len(d) // digest.DIGITS for *_, d in expected.values()] == [4, 1]
  other = {**tree, "clients": tree["clients"] * np.array([[1], [1], [-1], [1]], np.float32)}
  assert digest.differing(digest.table(other, ("server",)), expected) == "clients, row 2"


def test_what_every_process_holds_is_counted_once(monkeypatch):
  """Host arrays, as `start.workdir` reads them: of two processes the second adds nothing."""
  tree = {"clients": np.arange(6, dtype=np.float32).reshape(2, 3)}
  assert digest.table(tree)["clients"][-1] != "0" * 2 * digest.DIGITS
  monkeypatch.setattr(digest.hosts, "first", lambda: False)
  assert digest.table(tree)["clients"][-1] == "0" * 2 * digest.DIGITS
