"""The training loop. It knows phases, never methods."""

import contextlib
from pathlib import Path

import jax
import numpy as np

from kdjax.core import files, hosts
from kdjax.data import read_ahead
from kdjax.training import (
  checkpoint,
  clock,
  inputs,
  loss_log,
  program,
  run_folder,
  schedule,
  writer,
)
from kdjax.training.progress import Progress
from kdjax.types import ConfigError

DONE, PREEMPTED = 0, 42


def run(experiment, workdir, *, command, stop=lambda: False):
  """Trains to the end of the config, or until told to stop; the same call again resumes.

  Args:
    experiment: Experiment.
    workdir: the run's folder.
    command: what a user types to resume it, for the record.
    stop: asked between dispatches; when true, saves and returns.

  Returns:
    `DONE` or `PREEMPTED`.

  Raises:
    ConfigError: where the folder belongs to another config.
    TrainingError: where a loss is no longer finite.
  """
  workdir = Path(workdir)
  read_ahead.check_settings(experiment.config["input"])
  run_folder.check_config(workdir, experiment.config)
  hosts.barrier("checked")
  if hosts.first():
    run_folder.claim(workdir, experiment, command)
  checkpoints = checkpoint.Checkpoints(workdir)
  try:
    if checkpoints.latest() == experiment.batches and (workdir / "summary.json").exists():
      return DONE
    state, batches, spent = restore(experiment, checkpoints)
    opened = writer.Writer(workdir, resume_step=batches) if hosts.first() else writer.Silent()
    with opened as log:
      return TrainingRun(experiment, workdir, checkpoints, log, spent).train(state, stop)
  finally:
    checkpoints.close()


def restore(experiment, checkpoints):
  """From the newest checkpoint; the state of step 0 without.

  Returns:
    (state, its training batches or None, what the run had spent until then: see `Run.spent`).
  """
  newest = checkpoints.latest()
  if newest is None:
    return experiment.initialiser()(), None, {}
  meta = checkpoints.meta(newest)
  if meta["hash"] != experiment.hash:
    hint = "the data behind the source changed: who holds which example is not what it was"
    raise ConfigError("workdir", str(checkpoints.workdir), hint)
  state = checkpoints.restore(newest, experiment.template())
  return state, newest, meta.get("spent", {})  # checkpoints of older versions do not say


class TrainingRun:
  """One stretch of training: from a restored state to the end, or to a stop.

  The device always has work: a dispatch is waited for when the next one is under way, and its
  losses are written then, or before anything that must see them.
  """

  def __init__(self, experiment, workdir, checkpoints, log, spent=None):
    """Nothing is computed yet; `spent` is what earlier stretches say of themselves."""
    self.experiment, self.workdir = experiment, workdir
    self.checkpoints, self.log = checkpoints, log
    self.programs, self.totals = {}, schedule.totals(experiment.visits)
    self.tables = inputs.tables(experiment)
    self.clock, self.images = clock.Clock(), 0
    self.earlier = spent or {}
    self.losses = loss_log.LossLog(experiment.env, log, self.clock)
    self.evaluated = -1  # training batches at the last evaluation
    self.results = None  # what it found

  def train(self, state, stop):
    """Dispatches, and between them whatever is due: losses, evaluations, checkpoints, a stop."""
    experiment, config = self.experiment, self.experiment.config
    end, stopped = experiment.batches, hosts.AnyProcess()
    bar = Progress if hosts.first() else writer.Silent
    with (
      bar(f"{config['algorithm']} on {config['source']}", end) as progress,
      contextlib.closing(self.feeds(int(state.step))) as feeds,
      contextlib.closing(self.clock),
    ):
      for (visit, i, count), arguments in self.clock.waiting(feeds):
        state, aux = self.advance(state, visit, count, arguments)
        done = self.clock.dispatched(aux)
        i, batches = i + count, visit.after(i + count)
        progress.update(batches, **self.losses.write())
        logs = visit.phase.log and i == visit.n
        if logs or (visit.phase.feed and due(batches, config["log_every"], end)):
          lr = arguments[1].lr[count - 1]
          self.losses.send_for(visit, aux, lr, batches, done, self.images)
        if visit.phase.publish:
          progress.update(batches, **self.losses.write())
          keep = visit.phase.publish
          checkpoint.publish(self.workdir, state, experiment.env.cohorts, batches, keep)
        if i < visit.n or visit.settled:
          round_over = i == visit.n and visit.ends_round
          periods = [every for every, _ in experiment.evaluators.values()]
          if self.evaluated < batches and any(
            due(batches, p, end) if p else round_over for p in periods
          ):
            progress.update(batches, **self.losses.write())
            progress.update(batches, **self.evaluate(state, batches))
          stopping = batches < end and stopped(stop())
          if stopping or due(batches, config["save_every"], end):
            progress.update(batches, **self.losses.write())
            self.save(state, batches)
          if stopping:
            return PREEMPTED
      progress.update(end, **self.losses.write())
      if self.results is None:  # the run was killed after its last save, before its summary
        with self.clock.pausing():
          self.results = self.measure(state)
    self.finish(int(state.step))
    return DONE

  def dispatches(self, step):
    """(visit, first call, calls) from a position on; none reaches across anything that is due."""
    config, end = self.experiment.config, self.experiment.batches
    periods = [config["log_every"], config["save_every"]]
    periods += [every for every, _ in self.experiment.evaluators.values()]
    for visit in self.experiment.visits:
      i = max(0, step - visit.start)
      size = program.dispatch_size(self.experiment, visit.phase)
      while i < visit.n:
        batches = visit.after(i)
        count = min([size, visit.n - i, *(p - batches % p for p in (*periods, end) if p)])
        yield visit, i, count
        i += count

  def feeds(self, step):
    """Dispatches with their inputs; images that are not resident are read some steps ahead."""
    plan = list(self.dispatches(step))

    def made(n, images=True):
      visit, i, count = plan[n]
      total = self.totals[visit.number]
      return inputs.inputs(self.experiment, visit, i, count, total, images=images)

    if all(s.array is not None for s in self.experiment.sets.values()):
      yield from ((dispatch, made(n)) for n, dispatch in enumerate(plan))
      return
    pieces = inputs.pieces(self.experiment, plan, self.totals)
    with read_ahead.reading(pieces, **self.experiment.config["input"]) as parts:
      for n, dispatch in enumerate(plan):
        yield dispatch, made(n, images=pieces.reader(dispatch[0].number, parts))

  def advance(self, state, visit, count, arguments):
    """Runs one dispatch, so many calls of a visit: (state, aux of the last call)."""
    arguments = hosts.place(self.experiment.env.mesh, program.INPUTS, arguments)
    if visit.number not in self.programs:
      with self.clock.compiling():
        jitted = program.jitted(self.experiment, visit.phase)
        self.programs[visit.number] = jitted.lower(state, *arguments, self.tables).compile()
    state, aux = self.programs[visit.number](state, *arguments, self.tables)
    if visit.phase.feed:
      self.images += count * program.examples(self.experiment.env, visit.phase.feed)
    return state, aux

  def evaluate(self, state, batches):
    """Runs the evaluators, writes their means; returns what the bar shows."""
    jax.block_until_ready(state)
    with self.clock.pausing():
      self.evaluated, self.results = batches, self.measure(state)
      self.log.write(batches, "eval", means(self.results))
    accuracy = self.best()
    return {} if accuracy is None else {"accuracy": accuracy}

  def measure(self, state):
    """What all evaluators find: a list over replicas of dicts."""
    results = [{} for _ in range(self.experiment.env.R)]
    for _, evaluator in self.experiment.evaluators.values():
      results = [old | new for old, new in zip(results, evaluator(state), strict=True)]
    return results

  def best(self):
    """The number by which the best checkpoint is kept: shared accuracy.

    Of the clients' last head; of the method's first entry, where it tests no clients. None where
    no evaluator finds any.
    """
    found = [r["shared_accuracy"] for r in self.results if "shared_accuracy" in r]
    if not found:
      return None
    head = self.experiment.env.heads[-1]
    head = head if head in found[0] else next(iter(found[0]))
    return float(np.mean([x[head] for x in found]))

  def save(self, state, batches):
    """Starts saving a checkpoint of this very state."""
    jax.block_until_ready(state)
    meta = {"hash": self.experiment.hash, "spent": self.spent()}
    with self.clock.pausing():
      accuracy = self.best() if self.evaluated == batches else None
      self.checkpoints.save(batches, state, meta, accuracy)

  def spent(self):
    """Images and seconds of the run until now, those of earlier stretches included."""
    here = {
      "images": self.images,
      "working": self.clock.working(),
      "waited": self.clock.waited,
      "compiled": self.clock.compiled,
      "wall": self.clock.wall(),
    }
    return {key: value + self.earlier.get(key, 0) for key, value in here.items()}

  def finish(self, step):
    """Writes `summary.json`."""
    experiment, env = self.experiment, self.experiment.env
    shards, spent = experiment.data.shards, self.spent()
    common = {
      "algorithm": experiment.config["algorithm"],
      "dataset": experiment.config["source"],
      "seed": experiment.config["seed"],
      "steps": experiment.batches,
      "heads": list(env.heads),
      "bytes_sent": schedule.bytes_sent(experiment.algorithm, experiment.visits, step),
      "images_per_second": spent["images"] / spent["working"],
      "input_bound": spent["waited"] / spent["working"],
      "compile_seconds": spent["compiled"],
      "wall_seconds": spent["wall"],
      **experiment.algorithm.facts(experiment.visits[-1].round + 1),
    }
    processed = experiment.streams.processed(experiment.visits)
    runs = []
    for r, result in enumerate(self.results):
      own = slice(r * env.holders, (r + 1) * env.holders)
      facts = {
        "seed": env.seeds[r],
        "label_counts": shards.label_counts[own].tolist(),
        "primary_labels": [list(p) for p in shards.primary[own]],
        "private_examples": processed[own].tolist(),
      }
      if experiment.algorithm.uses_graph:
        facts["edges"] = np.argwhere(env.graph.union()).tolist()
      runs.append(facts | result)
    summary = {"replicas": env.R, "runs": runs} if env.R > 1 else runs[0]
    if hosts.first():
      files.write_json(self.workdir / "summary.json", common | summary)
    hosts.barrier("finished")


def due(batches, every, end):
  """Whether something that happens every so many batches, and at the end, happens now."""
  return batches == end or (every > 0 and batches % every == 0)


def means(results):
  """Mean over clients and replicas of every {key: {name: number, or one a client}}, flat.

  Matrices and deeper trees are for `summary.json` alone. Where there is one number a client, the
  spread comes with it.
  """
  flat = {}
  for key, found in results[0].items():
    for name, value in found.items() if isinstance(found, dict) else ():
      if isinstance(value, dict) or np.ndim(value) > 1:
        continue
      values = np.concatenate([np.atleast_1d(r[key][name]) for r in results])
      flat[f"{key}/{name}"] = values.mean()
      if values.size > 1:
        flat[f"{key}/{name}/std"] = values.std()
  return flat
