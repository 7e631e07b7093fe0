"""A contestant: the parts of a training step, each a program of its own.

spec: `settings.config`'s but for 'algorithm', and {'devices': host devices to make of the CPU}. The
parts of a block: MHD's step and the refresh of its pool; the step of separate training; of that
one's, the indices (made on the host, put on the device), the optimiser's update and, for scale, a
forward pass of every client in evaluation mode on as many images.
"""

import itertools
import time

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from benchmarks.contestants import protocol
from benchmarks.contestants.trainer import Trainer, configure, facts
from kdjax.core import gradients
from kdjax.core.env import STATE, sharded
from kdjax.training import program
from kdjax.training.stepper import Dispatch


def prepare(spec):
  """See `protocol.serve`."""
  configure(spec)
  mhd, separate = (Trainer(spec | {"algorithm": a}) for a in ("mhd", "separate"))
  train, refresh = itertools.islice({v.number: v for v in mhd.visits}.values(), 2)
  taught, alone = mhd.fresh(), separate.fresh()
  own, at = separate.visits[0], itertools.count()
  update, forward = _update(separate.experiment), _forward(separate.experiment)
  images = jnp.zeros((spec["batch"], *separate.experiment.env.task.image), jnp.float32)

  def block():
    nonlocal taught, alone
    parts, n = {}, next(at)

    def timed(name, fn, *args):
      began = time.perf_counter()
      out = jax.block_until_ready(fn(*args))
      parts[name] = time.perf_counter() - began
      return out

    taught = timed("MHD's step", mhd.call, taught, train, n, 1)
    taught = timed("refresh of its pool", mhd.call, taught, refresh, n, 1)
    alone = timed("separate step", separate.call, alone, own, n, 1)
    timed("its indices", lambda: jax.device_put(separate.stepper.inputs(Dispatch(own, n, 1))))
    alone = timed("its optimiser", update, alone)
    timed("forward pass", forward, alone, images)
    return parts

  block()
  return block, facts()


def _update(experiment):
  """TrainState -> TrainState: every client's update, for some gradient."""
  env = experiment.env

  def one(cohort, client):
    def step(c):
      lr = jnp.float32(1e-6)  # so that nothing grows, however often
      params, opt_state = gradients.apply_update(cohort.tx, lr, c.params, c.params, c.opt_state)
      return c._replace(params=params, opt_state=opt_state)

    return env.map_clients(step, client)

  def update(state):
    return state._replace(clients=tuple(map(one, env.cohorts, state.clients)))

  options = program.compiler_options(jax.default_backend())
  fn = sharded(env, update, (STATE,), STATE)
  return jax.jit(fn, donate_argnums=0, keep_unused=True, compiler_options=options)


def _forward(experiment):
  """(TrainState, f32[B, h, w, c]) -> every client's logits."""
  fn = sharded(experiment.env, experiment.env.predict, (STATE, P()), P("client"))
  return jax.jit(fn, compiler_options=program.compiler_options(jax.default_backend()))


if __name__ == "__main__":
  protocol.serve(prepare)
