"""The position of a run: the walk of prologue and cycle, a pure function of the calls so far."""

import itertools
import numbers
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kdjax.checks import MOST_STEPS, took
from kdjax.types import Algorithm, ConfigError, Feed, Phase, Pos

MOST_VISITS = 500_000  # visits of a run: a walk of some seconds


class Visit(NamedTuple):
  """A stretch of consecutive calls of one phase."""

  phase: Phase
  number: int  # the phase's place in prologue + cycle
  round: int  # turns of the cycle completed before
  start: int  # calls of all phases before
  phase_start: int  # calls of this phase before
  batches: int  # training batches of all phases before
  calls: int  # calls of this visit
  settled: bool  # whether evaluation and saving may follow it
  ends_round: bool  # whether it is the last of its turn of the cycle

  def after(self, i: int) -> int:
    """Training batches of the run after i calls of this visit."""
    return self.batches + (i if self.phase.feed else 0)


def visits(
  algorithm: Algorithm, epoch_steps: Callable[[Feed, int], int], *, steps: int, rounds: int
) -> tuple[Visit, ...]:
  """The whole run: the prologue once, then the cycle until the steps or the rounds are done.

  Args:
    algorithm: Algorithm.
    epoch_steps: (Feed, round) -> steps of one visit of an epoch phase.
    steps: training batches of the run, or 0. The last visit is cut short to fit; only phases with
      `closes` run after it in its round.
    rounds: turns of the cycle, or 0. Exactly one of `steps` and `rounds` is set.

  Raises:
    ConfigError: unless exactly one is set, if no phase of the cycle takes a batch, or if the run is
      too long to walk.
  """
  if (steps > 0) == (rounds > 0):
    raise ConfigError("steps", steps, f"exactly one of steps and rounds (= {rounds}) is above 0")
  phases = algorithm.prologue + algorithm.cycle
  first = len(algorithm.prologue)

  def length(phase, round):
    if phase.steps is None:
      return epoch_steps(phase.feed, round)
    calls = phase.steps(round) if callable(phase.steps) else phase.steps
    if not isinstance(calls, numbers.Integral):
      raise ConfigError("algo", calls, f"phase {phase.name!r} runs a whole number of times a round")
    if calls < 0:
      raise ConfigError("algo", calls, f"phase {phase.name!r} cannot run so often in a round")
    return calls

  if not any(p.feed and length(p, 0) for p in algorithm.cycle):
    hint = "no phase of this method's cycle takes a batch"
    if rounds:
      raise ConfigError("rounds", rounds, f"{hint} if rounds are counted: set steps instead")
    feeds = ", ".join(repr(p.name) for p in algorithm.cycle if p.feed) or "none"
    raise ConfigError("steps", steps, f"{hint}: those that could ({feeds}) run 0 times in a round")

  def walk():
    yield from ((number, 0) for number in range(first))
    for round in range(rounds) if rounds else itertools.count():
      yield from ((number, round) for number in range(first, len(phases)))

  out: list[Visit] = []
  counts = [0] * len(phases)  # calls of each phase
  start = 0
  batches = 0
  is_cut = False  # whether `steps` has cut a visit short
  for number, round in walk():
    phase = phases[number]
    whole = length(phase, round)
    n = whole
    if steps and batches == steps and (phase.feed or number == first):
      break
    if is_cut and not phase.closes:
      continue
    if steps and phase.feed:
      n = min(n, steps - batches)
    out.append(Visit(phase, number, round, start, counts[number], batches, n, False, False))
    start += n
    counts[number] += n
    batches += n if phase.feed else 0
    if number == len(phases) - 1:
      turns = rounds or (round + 1) * steps / max(batches, 1)  # if all are as long as those so far
      expected = turns * len(algorithm.cycle)
      _refuse_endless(("steps", steps) if steps else ("rounds", rounds), expected, start)
    is_cut = is_cut or n < whole
  following = out[1:] + [None]
  return tuple(map(_closed, out, following))


def _refuse_endless(length, visits, calls):
  """Raises ConfigError for a run that takes too long to list or to train."""
  if visits > MOST_VISITS:
    hint = f"the run would have some {visits:,.0f} stretches of phases, which are listed first"
    raise ConfigError(*length, f"{hint}: at most {MOST_VISITS:,}")
  if calls > 2 * MOST_STEPS:
    hint = f"{calls:,} calls of phases and more would take {took(calls)} at 1 ms each"
    raise ConfigError(*length, f"{hint}: at most {2 * MOST_STEPS:,}")


def _closed(visit, after):
  """A visit, given the one after it or None."""
  ends_round = after is None or after.number <= visit.number
  return visit._replace(ends_round=ends_round, settled=ends_round or bool(after.phase.feed))


def call_at(walk: Sequence[Visit], calls: int, batches: int) -> int:
  """The position, in this walk, of a run that has taken `batches` training batches.

  It is `calls` itself unless the run was planned shorter and its last round was cut short. The
  calls that closed that round are not part of the longer run, whose position is within the round.

  Args:
    walk: the visits of the run as it is planned now.
    calls: calls of phases so far, by the earlier plan.
    batches: training batches in these calls.
  """
  candidates = [v for v in walk if v.start <= calls <= v.start + v.calls]
  if any(v.after(calls - v.start) == batches for v in candidates):
    return calls
  within = next(v for v in walk if v.batches <= batches <= v.after(v.calls) and v.phase.feed)
  return within.start + batches - within.batches


def first_visits(walk: Sequence[Visit]) -> tuple[Visit, ...]:
  """The first visit of every phase."""
  return tuple({v.number: v for v in reversed(walk)}.values())[::-1]


def totals(walk: Sequence[Visit]) -> dict[int, int]:
  """Calls of each phase, by its place in prologue + cycle, over the whole run: {number: calls}."""
  out: dict[int, int] = {}
  for v in walk:
    out[v.number] = out.get(v.number, 0) + v.calls
  return out


def evaluations(walk: Sequence[Visit], every: int) -> int:
  """The number of evaluations, one every `every` batches; 0: one after every round."""
  if every == 0:
    return sum(v.ends_round for v in walk)
  end = walk[-1].after(walk[-1].calls)
  return end // every + (end % every > 0)


def position(visit: Visit, i: int, total: int) -> Pos:
  """The `Pos` of the i-th call of a visit; `total` is the phase's calls in the run."""
  return Pos(
    call=visit.start + i,
    phase_call=visit.phase_start + i,
    visit_call=i,
    round=visit.round,
    visit_calls=visit.calls,
    phase_calls=total,
    batches=visit.after(i),
  )


def bytes_sent(algorithm: Algorithm, walk: Sequence[Visit], calls: int) -> dict[str, int]:
  """Bytes sent by kind in the first `calls` calls of a run, all replicas together.

  Every receiver counts.
  """
  sent = dict(algorithm.bytes_at_start())
  total = totals(walk)
  for visit in walk:
    for i in range(min(visit.calls, calls - visit.start)):
      for kind, n in visit.phase.bytes_sent(position(visit, i, total[visit.number])).items():
        sent[kind] = sent.get(kind, 0) + n
  return sent
