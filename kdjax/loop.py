"""The training loop. It knows phases, never methods."""

import time
from pathlib import Path

import jax
import numpy as np

from kdjax import checkpoint, folder, program, schedule, writer
from kdjax.core import hosts
from kdjax.types import ConfigError, TrainingError

DONE, PREEMPTED = 0, 42
AHEAD = 2  # dispatches that are read ahead where images are not resident


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
  folder.check(workdir, experiment.config)
  hosts.barrier("checked")
  if hosts.first():
    folder.claim(workdir, experiment, command)
  checkpoints = checkpoint.Checkpoints(workdir)
  try:
    if checkpoints.latest() == experiment.batches and (workdir / "summary.json").exists():
      return DONE
    state, batches = restore(experiment, checkpoints)
    opened = writer.Writer(workdir, resume_step=batches) if hosts.first() else writer.Silent()
    with opened as log:
      return Run(experiment, workdir, checkpoints, log).train(state, stop)
  finally:
    checkpoints.close()


def restore(experiment, checkpoints):
  """(state, its training batches), from the newest checkpoint; (state of step 0, None) without."""
  newest = checkpoints.latest()
  if newest is None:
    return experiment.initialiser()(), None
  if checkpoints.meta(newest)["hash"] != experiment.hash:
    right = "the data behind the source changed: who holds which example is not what it was"
    raise ConfigError("workdir", str(checkpoints.workdir), right)
  return checkpoints.restore(newest, experiment.template()), newest


class Run:
  """One stretch of training: from a restored state to the end, or to a stop."""

  def __init__(self, experiment, workdir, checkpoints, log):
    """Nothing is computed yet."""
    self.experiment, self.workdir = experiment, workdir
    self.checkpoints, self.log = checkpoints, log
    self.programs, self.totals = {}, schedule.totals(experiment.visits)
    self.tables = program.tables(experiment)
    self.began, self.images = time.time(), 0
    self.compile_seconds, self.pause_seconds = 0.0, 0.0  # pauses: evaluating, starting a save
    self.evaluated = -1  # training batches at the last evaluation
    self.results = None  # what it found

  def train(self, state, stop):
    """Dispatches, and between them whatever is due: losses, evaluations, checkpoints, a stop."""
    experiment, config = self.experiment, self.experiment.config
    end = experiment.batches
    bar = writer.Progress if hosts.first() else writer.Silent
    with bar(f"{config['algorithm']} on {config['source']}", end) as progress:
      for (visit, i, count), arguments in self.feeds(int(state.step)):
        state, aux = self.advance(state, visit, count, arguments)
        i, batches = i + count, visit.after(i + count)
        if visit.phase.publish:
          keep = visit.phase.publish
          checkpoint.publish(self.workdir, state, experiment.env.cohorts, batches, keep)
        logs = visit.phase.log and i == visit.n
        if logs or (visit.phase.feed and due(batches, config["log_every"], end)):
          lr = arguments[1].lr[count - 1]
          progress.update(batches, **self.write_losses(visit, aux, lr, batches))
        if i < visit.n or visit.settled:
          round_over = i == visit.n and visit.ends_round
          periods = [every for every, _ in experiment.evaluators.values()]
          if self.evaluated < batches and any(
            due(batches, p, end) if p else round_over for p in periods
          ):
            progress.update(batches, accuracy=self.evaluate(state, batches))
          stopping = batches < end and hosts.any_process(stop())
          if stopping or due(batches, config["save_every"], end):
            self.save(state, batches)
          if stopping:
            return PREEMPTED
        progress.update(batches)
    if self.results is None:  # the run was killed after its last save, before its summary
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

    def inputs(n):
      visit, i, count = plan[n]
      return program.inputs(self.experiment, visit, i, count, self.totals[visit.number])

    if all(s.array is not None for s in self.experiment.sets.values()):
      yield from ((dispatch, inputs(n)) for n, dispatch in enumerate(plan))
      return
    import grain  # imported where it is used: it takes a second

    options = grain.ReadOptions(num_threads=AHEAD, prefetch_buffer_size=AHEAD)
    ahead = grain.MapDataset.range(len(plan)).map(lambda n: (inputs(n),)).to_iter_dataset(options)
    yield from ((dispatch, arguments) for dispatch, (arguments,) in zip(plan, ahead, strict=True))

  def advance(self, state, visit, count, arguments):
    """Runs one dispatch, so many calls of a visit: (state, aux of the last call)."""
    arguments = hosts.place(self.experiment.env.mesh, program.INPUTS, arguments)
    if visit.number not in self.programs:
      began = time.time()
      jitted = program.build(self.experiment, visit.phase)
      self.programs[visit.number] = jitted.lower(state, *arguments, self.tables).compile()
      self.compile_seconds += time.time() - began
    state, aux = self.programs[visit.number](state, *arguments, self.tables)
    if visit.phase.feed:
      self.images += count * program.examples(self.experiment.env, visit.phase.feed)
    return state, aux

  def write_losses(self, visit, aux, lr, batches):
    """Writes the losses of this very step, means over clients; returns what the bar shows."""
    losses, whose = hosts.fetch(aux), [("client", c.ids) for c in self.experiment.env.cohorts]
    if isinstance(losses, dict):
      losses, whose = (losses,), [("the server of replica", range(self.experiment.env.R))]
    means = {}
    for name in sorted({name for part in losses for name in part}):
      values = np.concatenate([part[name] for part in losses if name in part])
      if not np.isfinite(values).all():
        who = [
          (kind, k) for x, (kind, ks) in zip(losses, whose, strict=True) if name in x for k in ks
        ]
        kind, k = who[np.flatnonzero(~np.isfinite(values))[0]]
        raise TrainingError(
          f"{name} of {kind} {k} is not finite at step {batches}: "
          "start again in another --workdir with a lower optim.lr, or with optim.clip=1.0"
        )
      means[name] = float(values.mean())
    if visit.phase.feed:
      means |= {"lr": float(lr), "images_per_second": self.speed()}
    self.log.write(batches, visit.phase.name, means)
    return {k: v for k, v in means.items() if k in ("loss", "images_per_second")}

  def evaluate(self, state, batches):
    """Runs the evaluators, writes their means; returns the accuracy that the bar shows."""
    jax.block_until_ready(state)
    began = time.time()
    self.evaluated, self.results = batches, self.measure(state)
    self.log.write(batches, "eval", means(self.results))
    self.pause_seconds += time.time() - began
    return self.best()

  def measure(self, state):
    """What all evaluators find: a list over replicas of dicts."""
    results = [{} for _ in range(self.experiment.env.R)]
    for _, evaluator in self.experiment.evaluators.values():
      results = [old | new for old, new in zip(results, evaluator(state), strict=True)]
    return results

  def best(self):
    """The number by which the best checkpoint is kept: shared accuracy.

    Of the clients' last head; of the method's first entry, where it tests no clients.
    """
    found = [r["shared_accuracy"] for r in self.results]
    head = self.experiment.env.heads[-1]
    head = head if head in found[0] else next(iter(found[0]))
    return float(np.mean([x[head] for x in found]))

  def save(self, state, batches):
    """Starts saving a checkpoint of this very state."""
    jax.block_until_ready(state)
    began = time.time()
    accuracy = self.best() if self.evaluated == batches else None
    self.checkpoints.save(batches, state, {"hash": self.experiment.hash}, accuracy)
    self.pause_seconds += time.time() - began

  def speed(self):
    """Training images, private and public, per second, compilation and pauses left out."""
    seconds = time.time() - self.began - self.compile_seconds - self.pause_seconds
    return self.images / max(seconds, 1e-9)

  def finish(self, step):
    """Writes `summary.json`."""
    experiment, env = self.experiment, self.experiment.env
    shards = experiment.data.shards
    common = {
      "algorithm": experiment.config["algorithm"],
      "dataset": experiment.config["source"],
      "seed": experiment.config["seed"],
      "steps": experiment.batches,
      "heads": list(env.heads),
      "bytes_sent": schedule.bytes_sent(experiment.algorithm, experiment.visits, step),
      "images_per_second": self.speed(),
      "compile_seconds": self.compile_seconds,
      "wall_seconds": time.time() - self.began,
      **experiment.algorithm.facts(experiment.visits[-1].round + 1),
    }
    processed = experiment.streams.processed(experiment.visits)
    runs = []
    for r, result in enumerate(self.results):
      mine = slice(r * env.holders, (r + 1) * env.holders)
      facts = {
        "seed": env.seeds[r],
        "label_counts": shards.label_counts[mine].tolist(),
        "primary_labels": [list(p) for p in shards.primary[mine]],
        "private_examples": processed[mine].tolist(),
        "edges": np.argwhere(env.graph.union()).tolist(),
      }
      runs.append(facts | result)
    summary = {"replicas": env.R, "runs": runs} if env.R > 1 else runs[0]
    if hosts.first():
      writer.write_json(self.workdir / "summary.json", common | summary)
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
      if np.ndim(value):
        flat[f"{key}/{name}/std"] = values.std()
  return flat
