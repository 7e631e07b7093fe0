"""Random keys: every draw is a function of (seed, purpose, step, client, place in the batch)."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np

EVERYONE = 2**31 - 1  # the name for draws that all clients of a replica share


def purpose_id(purpose: str) -> int:
  """A stable 31-bit number for a purpose's name."""
  return zlib.crc32(purpose.encode()) & 0x7FFFFFFF


def client_key(
  seed: jax.Array | int, purpose: str, step: jax.Array | int, client: jax.Array | int
) -> jax.Array:
  """The key of one client's draws for one purpose at one step.

  Args:
    seed: i32[], the replica's seed.
    purpose: str, what is drawn.
    step: i32[], the number of earlier draws for this purpose.
    client: i32[], the name that the client draws under.
  """
  key = jax.random.fold_in(jax.random.key(seed), purpose_id(purpose))
  return jax.random.fold_in(jax.random.fold_in(key, step), client)


def example_keys(key: jax.Array, n: int) -> jax.Array:
  """Keys `[n]` for a device's share of a batch, by place in the whole batch on any mesh.

  Args:
    key: the client's key, equal on every shard of the `data` axis.
    n: examples on this device.
  """
  place = jax.lax.axis_index("data") * n + jnp.arange(n)
  return jax.vmap(lambda p: jax.random.fold_in(key, p))(place)


def host_rng(*words: int | np.integer | str) -> np.random.Generator:
  """A NumPy generator keyed by integers and purpose names, in the given order."""
  numbers = [purpose_id(w) if isinstance(w, str) else int(w) for w in words]
  entropy = [len(numbers), *numbers]  # NumPy pads entropy with zeros: the length tells them apart
  return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
