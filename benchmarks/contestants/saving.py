"""A contestant: checkpoints of K clients, saved and restored as a run does it.

spec: `settings.config`'s. A block saves once and restores once; its parts are the seconds until the
call of `save` returns, until the checkpoint is on disk, and of restoring it.
"""

import itertools
import tempfile
import time

import jax

from benchmarks.contestants import protocol
from benchmarks.contestants.trainer import Trainer, configure, facts
from kdjax.training import stored
from kdjax.training.checkpoint import Checkpoints


def prepare(spec):
  """See `protocol.serve`."""
  configure(spec)
  trainer = Trainer(spec)
  state, template = trained(trainer.fresh()), trainer.experiment.shapes()
  folder = tempfile.TemporaryDirectory()
  numbers = itertools.count(1)

  def block():
    number, checkpoints = next(numbers), Checkpoints(folder.name)
    began = time.perf_counter()
    checkpoints.save(number, state, {"hash": ""}, None)
    returned = time.perf_counter()
    checkpoints.close()
    finished = time.perf_counter()
    opened = time.perf_counter()
    jax.block_until_ready(stored.state(folder.name, number, template))
    restored = time.perf_counter()
    return {
      "save, until the call returns": returned - began,
      "save, until it is on disk": finished - began,
      "restore": restored - opened,
    }

  size = sum(x.nbytes for x in jax.tree.leaves(state))
  return block, {"state_bytes": size} | facts()


def trained(state):
  """The state with noise for momentum: fresh zeros would compress to nothing."""

  def noise(i, x):
    return jax.random.normal(jax.random.fold_in(jax.random.key(0), i), x.shape, x.dtype)

  def filled(client):
    leaves, tree = jax.tree.flatten(client.opt_state)
    new = [jax.device_put(noise(i, x), x.sharding) for i, x in enumerate(leaves)]
    return client._replace(opt_state=jax.tree.unflatten(tree, new))

  return state._replace(clients=tuple(map(filled, state.clients)))


if __name__ == "__main__":
  protocol.serve(prepare)
