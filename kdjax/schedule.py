"""Where a run stands: the walk of prologue and cycle, a pure function of the step."""

import itertools
from typing import NamedTuple

from kdjax.types import Algorithm, ConfigError, Phase, Pos


class Visit(NamedTuple):
  """A stretch of consecutive calls of one phase."""

  phase: Phase
  number: int  # of the phase: its place in prologue + cycle
  round: int  # turns of the cycle completed before
  start: int  # calls of all phases before
  count: int  # batches that this phase took before; for a phase without feed, its calls
  batches: int  # training batches of all phases before
  n: int  # calls of this visit
  settled: bool  # whether evaluation and saving may follow it

  def after(self, i):
    """Training batches of the run after i calls of this visit."""
    return self.batches + (i if self.phase.feed else 0)


def visits(algorithm: Algorithm, epoch_steps, *, steps: int, rounds: int) -> tuple[Visit, ...]:
  """The whole run: the prologue once, then the cycle until the steps or the rounds are done.

  Args:
    algorithm: Algorithm.
    epoch_steps: Feed -> steps of one visit of an epoch phase.
    steps: training batches of the run, or 0; the last visit is cut short to fit.
    rounds: turns of the cycle, or 0; exactly one of the two is set.

  Raises:
    ConfigError: where not exactly one is set, or where no phase of the cycle takes a batch.
  """
  if (steps > 0) == (rounds > 0):
    raise ConfigError("steps", steps, f"exactly one of steps and rounds (= {rounds}) is above 0")
  phases = algorithm.prologue + algorithm.cycle
  lengths = [epoch_steps(p.feed) if p.steps is None else p.steps for p in phases]
  first = len(algorithm.prologue)
  if not any(p.feed and n for p, n in zip(algorithm.cycle, lengths[first:], strict=True)):
    right = "with rounds, no phase of this method's cycle takes a batch: count in steps"
    raise ConfigError("steps", steps, right)

  def walk():
    yield from ((number, 0) for number in range(first))
    for turn in range(rounds) if rounds else itertools.count():
      yield from ((number, turn) for number in range(first, len(phases)))

  out, counts, start, batches = [], [0] * len(phases), 0, 0
  for number, turn in walk():
    phase, n = phases[number], lengths[number]
    if steps and batches == steps and (phase.feed or number == first):
      break
    if steps and phase.feed:
      n = min(n, steps - batches)
    out.append(Visit(phase, number, turn, start, counts[number], batches, n, False))
    start, counts[number] = start + n, counts[number] + n
    batches += n if phase.feed else 0
    if n < lengths[number]:
      break
  following = out[1:] + [None]
  return tuple(
    v._replace(settled=after is None or bool(after.phase.feed) or after.number <= v.number)
    for v, after in zip(out, following, strict=True)
  )


def totals(walk):
  """Calls of each phase, by its place in prologue + cycle, over the whole run: {number: calls}."""
  out = {}
  for v in walk:
    out[v.number] = out.get(v.number, 0) + v.n
  return out


def position(visit, i, total):
  """`Pos` of the i-th call of a visit; `total` is the phase's calls in the run."""
  return Pos(visit.start + i, visit.count + i, visit.round, i, visit.n, total)


def bytes_sent(algorithm, walk, step):
  """Bytes received by kind in the first `step` calls of a run, all replicas together."""
  sent = dict(algorithm.start())
  total = totals(walk)
  for visit in walk:
    for i in range(min(visit.n, step - visit.start)):
      for kind, n in visit.phase.sent(position(visit, i, total[visit.number])).items():
        sent[kind] = sent.get(kind, 0) + n
  return sent
