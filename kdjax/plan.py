"""The cost of an experiment, without its data and without running it."""

import io
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from kdjax import experiment
from kdjax.checks import validate
from kdjax.config import plain, replica_seeds
from kdjax.core.costs import nbytes
from kdjax.data import dataset, sources
from kdjax.data.dataset import Data
from kdjax.data.example_set import held_out
from kdjax.evals import _counting as counting
from kdjax.evals import accuracy
from kdjax.experiment import Experiment
from kdjax.training import inputs, program, schedule
from kdjax.training.schedule import Visit

if TYPE_CHECKING:
  from rich.table import Table

# A layout without loops, so that XLA can count its FLOPs.
UNROLL = {
  "map": "unroll",
  "conv": "direct",
  "blocks": "unroll",
  "steps_per_dispatch": 1,
}


def describe(config: Any, *, devices: list[jax.Device] | None = None) -> str:
  """The plan as text.

  Args:
    config: ConfigDict.
    devices: see `experiment.build`.

  Raises:
    ConfigError: for anything in the config that cannot work.
  """
  config = plain(config)
  validate(config)
  planned = experiment.build(config, data=described(config), devices=devices)
  return render(planned, costs(planned), counted_flops(config, devices=devices))


def described(config: dict[str, Any]) -> Data:
  """The config's data as shapes and labels, without reading them."""
  return dataset.describe(config, replica_seeds(config))


def counted_flops(
  config: dict[str, Any], *, devices: list[jax.Device] | None = None
) -> dict[str, float]:
  """{phase: FLOPs of one call on all devices} as XLA counts them, two per multiply-add."""
  mesh = {**config["mesh"], **UNROLL}
  unrolled = experiment.build({**config, "mesh": mesh}, data=described(config), devices=devices)
  size = unrolled.env.mesh.size
  return {
    visit.phase.name: size * lower(unrolled, visit).cost_analysis().get("flops", 0.0)  # type: ignore[union-attr]
    for visit in first_visits(unrolled)
  }


def costs(planned: Experiment) -> dict[str, tuple[int, int]]:
  """{phase: (bytes of temporaries per device, examples per call)}; compiles each program."""
  out = {}
  for visit in first_visits(planned):
    feed = visit.phase.feed
    examples = program.examples(planned.env, feed) if feed else 0
    memory = lower(planned, visit).compile().memory_analysis()
    out[visit.phase.name] = (memory.temp_size_in_bytes, examples)  # type: ignore[union-attr]
  return out


def first_visits(planned: Experiment) -> tuple[Visit, ...]:
  """The first visit of every phase."""
  return schedule.first_visits(planned.visits)


def lower(planned: Experiment, visit: Visit) -> jax.stages.Lowered:
  """A phase's program, lowered for abstract arguments."""
  return trace(planned, visit).lower()


def trace(planned: Experiment, visit: Visit) -> jax.stages.Traced:
  """A phase's program, traced for abstract arguments."""
  total = schedule.totals(planned.visits)[visit.number]
  arguments = jax.tree.map(_shape, abstract_inputs(planned, visit, total))
  return program.jitted(planned, visit.phase).trace(planned.shapes(), *arguments, {})


def evaluation(planned: Experiment, batch: int) -> tuple[int, jax.stages.Lowered]:
  """(calls in the whole run, the lowered program) of a pass that measures accuracy.

  Args:
    planned: Experiment with the evaluator `accuracy`.
    batch: test images per pass.
  """
  test = planned.data.source.test
  every = planned.config["evals"]["accuracy"]["every"]
  calls = schedule.evaluations(planned.visits, every) * math.ceil(len(test.labels) / batch)
  kinds = (((batch, *test.shape), test.dtype), ((batch,), jnp.int32), ((batch,), jnp.float32))
  arguments = (jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in kinds)
  step = counting.program(planned, accuracy.counter(planned.env))
  return calls, step.lower(planned.shapes(), *arguments)


def abstract_inputs(planned: Experiment, visit: Visit, total: int) -> tuple:
  """`inputs.inputs` without the images of the data set, which are given by shape alone."""
  train = planned.data.source.train
  batches, nows, count = inputs.inputs(planned, visit, 0, 1, total, images=False)
  image = lambda half: half._replace(
    image=jax.ShapeDtypeStruct((*half.index.shape, *train.shape), train.dtype)
  )
  side = lambda halves: halves and tuple(half and image(half) for half in halves)
  whole = batches._replace(private=side(batches.private), public=side(batches.public))
  return whole, nows, count


def _shape(x):
  return jax.ShapeDtypeStruct(x.shape, x.dtype)


def render(planned: Experiment, costs: dict[str, tuple[int, int]], flops: dict[str, float]) -> str:
  """The plan's tables as text."""
  from rich.console import Console
  from rich.table import Table

  env = planned.env
  config = planned.config
  shapes = planned.shapes()
  text = io.StringIO()
  console = Console(file=text, width=88)
  title = f"Plan: {config['algorithm']} on {config['source']}"
  table = Table(title=title, show_header=False, title_justify="left")
  add = lambda name, value: table.add_row(name, value)
  mesh = env.mesh.shape
  platform = jax.devices()[0].platform
  add("clients", f"{env.K} per replica, {env.R} replica(s)")
  for cohort in env.cohorts:
    count = sum(x.size for x in jax.tree.leaves(cohort.template.params))
    add(f"parameters, {cohort.name}", f"{count:,} per client, {len(cohort.ids)} client(s)")
  add("mesh", f"client {mesh['client']} x data {mesh['data']} ({platform}), map {env.local_map}")
  add("training batches", f"{planned.batches:,}")
  sizes = env.task.private_sizes
  about = "" if _is_read(planned.sets["private"]) else "about "  # the labels are stand-ins
  add("private examples", f"{about}{sizes.min():,} to {sizes.max():,} per client")
  add("public examples", f"{env.task.public_sizes[0]:,}")
  parts = {
    "parameters and statistics": [(c.params, c.model_state) for c in shapes.clients],
    "optimiser": [c.opt_state for c in shapes.clients],
    "pool or method's own": shapes.local,
  }
  for name, tree in parts.items():
    add(f"{name}, per device", human(nbytes(tree) / mesh["client"]))
  add("server, per device", human(nbytes(shapes.server)))
  for name, size in stored(planned).items():
    add(name, size)
  end = planned.visits[-1].start + planned.visits[-1].calls
  sent = schedule.bytes_sent(planned.algorithm, planned.visits, end)
  for kind, total in sent.items():
    add(
      f"sent over the run, {kind}", f"{human(total)} ({total / planned.batches:,.0f} bytes a batch)"
    )
  console.print(table)
  console.print(phase_table(planned, costs, flops))
  return text.getvalue().rstrip()


def sets(planned: Experiment) -> dict[str, tuple[int, bool]]:
  """{half: (bytes of the training set, whether every device holds it)}, each array once."""
  config = planned.config
  sizes = {}
  for half, key, holdout in (("private", "source", "holdout"), ("public", "public_source", None)):
    if not config[key]:
      continue  # the public set is a share of the private one
    info = config[f"{key}_info"]
    examples = planned.sets[half]
    size = math.prod(examples.shape) * examples.dtype.itemsize
    whole = size * (info["train"] - sum(held_out(config[holdout] if holdout else 0)))
    fits = sources.is_resident(config[key], whole, config["source_resident_bytes"])
    if _is_read(examples):  # `source_info` left it open
      fits = examples.array is not None
    sizes[half] = size * len(examples.labels), fits
  return sizes


def _is_read(examples):
  """Whether a set is the data itself, instead of a stand-in made from `source_info`."""
  return examples.read is not None or examples.array is not None


def resident(planned: Experiment) -> int:
  """Bytes of the training sets that every device holds; lowered programs do not include them."""
  return sum(size for size, fits in sets(planned).values() if fits)


def stored(planned: Experiment) -> dict[str, str]:
  """{row: text} of each training set: its bytes, and where it is kept."""
  rows = {}
  for half, (size, fits) in sets(planned).items():
    kept = "resident on every device" if fits else "read as needed"
    name = f"{half} data" if planned.config["public_source"] else "data"
    rows[f"{name} as {planned.sets[half].dtype}"] = f"{human(size)}, {kept}"
  return rows


def phase_table(
  planned: Experiment, costs: dict[str, tuple[int, int]], flops: dict[str, float]
) -> "Table":
  """A table with one row per phase: FLOPs, temporaries, time, and the input rate needed."""
  from rich.table import Table

  rate = planned.config["mesh"]["device_tflops"] * 1e12
  caption = (
    f"time and images/s if a device sustains {rate / 1e12:g} TFLOP/s (mesh.device_tflops), an "
    "accelerator's; of this machine: kdjax measure"
  )
  table = Table(caption=caption, caption_justify="left")
  for column in ("phase", "calls", "FLOP per call", "temporaries", "time", "images/s needed"):
    table.add_column(column, justify="left" if column == "phase" else "right")
  calls = schedule.totals(planned.visits)
  for visit in first_visits(planned):
    name = visit.phase.name
    temporary, examples = costs[name]
    seconds = flops[name] / (rate * planned.env.mesh.size)
    needed = f"{examples / seconds:,.0f}" if examples and seconds else "-"
    table.add_row(
      name,
      f"{calls[visit.number]:,}",
      f"{flops[name]:.3e}",
      human(temporary),
      f"{seconds * calls[visit.number] / 3600:,.2f} h",
      needed,
    )
  return table


def human(n: float) -> str:
  """Bytes in the largest unit that keeps the number above 1."""
  for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
    if n < 1024 or unit == "TiB":
      return f"{n:,.0f} {unit}" if unit == "B" else f"{n:,.1f} {unit}"
    n /= 1024
  raise AssertionError
