"""Trains the runs in order: first the controls, then the runs of claims whose controls hold."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kdjax.ending import DONE, FAULT, STOPPED
from kdjax.reproduce import judging
from kdjax.reproduce.claims import Claim, Figure, Paper, arms_of, quantities
from kdjax.reproduce.runs import Asked, Run, needed, own_words, tasks, train
from kdjax.sweep.cli import Stop, finished, steps_done, work
from kdjax.training import lock
from kdjax.training.progress import Progress

SECONDS = 60


class Chosen(NamedTuple):
  """The claims and figures of a paper that were asked for."""

  paper: Paper
  claims: Sequence[Claim]
  figures: Sequence[Figure]


def in_order(asked: Asked, chosen: Sequence[Chosen]) -> Iterator[Run]:
  """Yields all runs, some more than once, without those that a failed control rules out.

  The next run must be taken only after the earlier ones have ended.
  """
  for paper, claims, _ in chosen:
    for claim in claims:
      names = [q.arm for control in claim.controls for q in quantities(control.difference)]
      for task in tasks(asked, paper, claim):
        yield from needed(asked, paper, task, names)
  for paper, claims, figures in chosen:
    for claim in claims:
      for task in tasks(asked, paper, claim):
        if judging.controls_hold(claim, judging.results_of(asked, paper, task)):
          yield from needed(asked, paper, task, arms_of(claim))
    for figure in figures:
      for task in tasks(asked, paper, figure):
        yield from needed(asked, paper, task, arms_of(figure))


def everything(asked: Asked, chosen: Sequence[Chosen]) -> list[Run]:
  """All runs that may be needed, each once."""
  found = {}
  for paper, claims, figures in chosen:
    for item in (*claims, *figures):
      for task in tasks(asked, paper, item):
        for run in needed(asked, paper, task, arms_of(item)):
          found[run.point.folder] = run
  return list(found.values())


def do(asked: Asked, chosen: Sequence[Chosen], minutes: float) -> int:
  """Trains the unfinished runs, with a bar over all runs; returns the exit code.

  Args:
    asked: the command line.
    chosen: the claims and figures.
    minutes: the time after which the run under way is saved, and the rest is left; 0: no limit.

  Raises:
    ConfigError: for a folder that holds another experiment, or that another command trains in.
  """
  every = everything(asked, chosen)
  end = time.monotonic() + SECONDS * minutes if minutes else None
  bar = Progress(f"{len(every)} runs", _size(every), unit="estimated second")
  asked.workdir.mkdir(parents=True, exist_ok=True)
  with lock.held_for_runs(asked.workdir), Stop() as stop, bar:

    def tick(run):
      if end and time.monotonic() > end and not stop.signals:
        stop.signals.append(signal.SIGTERM)
      done = [r for r in every if finished(r.point) and r.point.folder != run.point.folder]
      bar.update(_size(done) + int(_size([run]) * _share(run)), done=len(done))

    failed = train(in_order(asked, chosen), stop, tick)
    bar.update(_size([r for r in every if finished(r.point)]))
  for run in failed:
    print(f"failed: {run.point.folder}: {own_words(run)}", file=sys.stderr)
  if stop.signals:
    print("Stopped; the same command goes on.", file=sys.stderr)
    return STOPPED
  return FAULT if failed else DONE


def _size(every: Sequence[Run]) -> int:
  """The declared seconds of some runs."""
  return max(1, round(sum(SECONDS * run.minutes for run in every))) if every else 0


def _share(run: Run) -> float:
  """The done share of a run; 0 if only the run itself knows its length."""
  steps = work(run.point)
  return min(0.99, steps_done(run.point) / steps) if steps else 0.0
