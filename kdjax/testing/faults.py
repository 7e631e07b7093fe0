"""The property that values of a client that are not finite reach no other client."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.sources import ExampleSet, Source
from kdjax.experiment import Experiment
from kdjax.plugins import find_method
from kdjax.testing import small
from kdjax.testing.case import Case
from kdjax.training.stepper import Stepper
from kdjax.types import TrainState

FEATURES = 36  # of an example: those of `small.IMAGE`, as numbers, which can be anything


def stay(case: Case) -> None:
  """After a step on NaN data, the others continue as if that client had not taken the step."""
  for fault in ("reset", "freeze"):
    clean, dirty = build(case, fault), build(case, fault, poison=np.nan)
    call, stepper = first_fault(clean, dirty), Stepper(clean)
    well, foul = stepper.tables, Stepper(dirty).tables
    before, _ = small.train(clean, calls=call, stepper=stepper)
    other = jax.tree.map(jnp.copy, before)
    stepper.tables = foul
    hurt, _ = small.train(clean, before, calls=call + 1, stepper=stepper)
    stepper.tables = well
    sound, _ = small.train(clean, other, calls=call + 1, stepper=stepper)
    who = tuple(np.asarray(c.health.since) == call for c in hurt.clients)
    ends = [small.train(clean, s, stepper=stepper)[0] for s in (hurt, replace(sound, hurt, who))]
    kept = all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(ends[0][1:])))
    assert kept, "add to `local` and `server` only where aux['live'] says that a step was taken"
    others = [rows(s, tuple(~m for m in who)) for s in ends]
    message = f"a faulty client reaches others (faults.client={fault!r}): "
    hint = "leave out inactive clients (core.health.active_clients) and values that are not finite"
    chex.assert_trees_all_equal(*others, custom_message=message + hint)


def victim(case: Case) -> int:
  """The holder that gets NaN data; in methods whose models travel, the first holder visited."""
  return 1 if find_method(case.method).travels else 2


def build(case: Case, fault: str, poison: float | None = None, **changes: Any) -> Experiment:
  """A small experiment on rows of features; `poison` in place of the victim's private examples."""
  c = small.config(case, dtype="float32", **changes)
  c.source_info = dict(c.source_info, image=(FEATURES,))
  c.faults.client = fault
  source, shards = small.data(sum(n for n, *_ in c.clients))
  source = features(source)
  if poison is not None and source.train.array is not None:
    source.train.array[shards.private[victim(case)]] = poison
  return small.build(c, data_=(source, shards))


def features(source: Source) -> Source:
  """The same examples as rows of features."""
  rows = lambda s: (s.fetch(np.arange(len(s.labels))).reshape(-1, FEATURES) / 255).astype("f4")
  table = lambda s: ExampleSet(s.labels, s.strata, (FEATURES,), rows(s), None)
  return Source(source.name, table(source.train), table(source.test), source.classes)


def first_fault(clean: Experiment, dirty: Experiment) -> int:
  """The first call in the second half of a run, or in all of it, that the victim skips.

  Raises:
    AssertionError: if no client ever notices the data.
  """
  end = clean.visits[-1].start + clean.visits[-1].calls
  for begin in (end // 2, 0):
    stepper = Stepper(dirty)
    foul, stepper.tables = stepper.tables, Stepper(clean).tables
    state = small.train(dirty, calls=begin, stepper=stepper)[0] if begin else None
    stepper.tables = foul
    state, _ = small.train(dirty, state, stepper=stepper)
    since = np.concatenate([np.asarray(c.health.since) for c in state.clients])
    if (since >= 0).any():
      return int(since[since >= 0].min())
  raise AssertionError("no client notices a loss that is not finite: use core.clients.update")


def rows(state: TrainState, keep: tuple) -> tuple:
  """The state of the clients in `keep`, a bool array per cohort, and of the server."""
  whole = jax.device_get(state)
  chosen = lambda tree, mask: jax.tree.map(lambda x: x[mask], tree)
  clients = [chosen(c, m) for c, m in zip(whole.clients, keep, strict=True)]
  local = [chosen(own, m) for own, m in zip(whole.local, keep, strict=True)]
  return clients, local, whole.server


def replace(state: TrainState, other: TrainState, who: tuple) -> TrainState:
  """A state with the clients in `who`, a bool array per cohort, replaced by those of another."""
  put = lambda mask: lambda old, new: jnp.where(jnp.expand_dims(mask, range(1, old.ndim)), new, old)
  swap = lambda trees, others: tuple(
    jax.tree.map(put(m), tree, o) for tree, o, m in zip(trees, others, who, strict=True)
  )
  clients, local = swap(state.clients, other.clients), swap(state.local, other.local)
  return state._replace(clients=clients, local=local)
