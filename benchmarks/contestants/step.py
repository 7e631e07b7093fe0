"""A contestant: training steps of K clients, fused into one program or one after another.

spec: `settings.config`'s, and {'steps': of a block, 'form': 'fused', 'alone' (a client's own
program, K states stepped in turn) or 'rounds' (whole turns of the method's cycle), 'devices': host
devices to make of the CPU, 'without': see `jaxside.configure`}.
"""

import itertools

import jax

from benchmarks.contestants import protocol
from benchmarks.contestants.trainer import Trainer, configure
from kdjax.training import program


def prepare(spec):
  """See `protocol.serve`."""
  configure(spec)
  make = {"fused": fused, "alone": alone, "rounds": rounds}[spec["form"]]
  return make(spec)


def fused(spec):
  """All clients in one step."""
  trainer = Trainer(spec)
  state, done = trainer.fresh(), itertools.count(0, spec["steps"])

  def block():
    nonlocal state
    state = jax.block_until_ready(
      trainer.calls(state, trainer.visits[0], next(done), spec["steps"])
    )

  block()
  return block, trainer.facts()


def alone(spec):
  """One client's program, compiled once; all are dispatched, then waited for together.

  A dispatch holds as many steps as one of the fused program does.
  """
  trainer = Trainer(spec | {"clients": 1})
  visit = trainer.visits[0]
  size = program.dispatch_size(trainer.experiment, visit.phase)
  states, done = (
    [trainer.fresh() for _ in range(spec["clients"])],
    itertools.count(0, spec["steps"]),
  )

  def block():
    nonlocal states
    first = next(done)
    end = first + spec["steps"]
    for i in range(first, end, size):
      states = [trainer.calls(s, visit, i, min(size, end - i)) for s in states]
    jax.block_until_ready(states)

  block()
  return block, trainer.facts()


def rounds(spec):
  """Whole rounds of a federated method."""
  trainer = Trainer(spec)
  turns = itertools.groupby(trainer.visits, key=lambda visit: visit.round)
  state = trainer.fresh()

  def block():
    nonlocal state
    for _, visits in itertools.islice(turns, spec["steps"]):
      for visit in visits:
        state = trainer.calls(state, visit, 0, visit.calls)
    jax.block_until_ready(state)

  block()
  return block, trainer.facts()


if __name__ == "__main__":
  protocol.serve(prepare)
