"""Plans for machines that are not at hand, as text."""

import io
import math
from typing import TYPE_CHECKING

from kdjax import plan
from kdjax.forms import Form
from kdjax.hardware.cost import Cost
from kdjax.hardware.target import GIB, Target

if TYPE_CHECKING:
  from kdjax.elsewhere import PhasePlan, TargetPlan


def render(target_plan: "TargetPlan", price: float) -> str:
  """The plan as tables of text; `price` is that of a device per hour, 0 if not known."""
  from rich.console import Console
  from rich.table import Table

  target = target_plan.target
  text = io.StringIO()
  console = Console(file=text, width=100)
  mesh = target_plan.layout["mesh"]
  title = (
    f"{target.size} x {target.description} ({target.name}), mesh {mesh['client']} x {mesh['data']}"
  )
  table = Table(title=f"{title}, map {target_plan.layout['map']}", title_justify="left")
  columns = [
    "phase",
    "calls",
    "memory",
    "TFLOP",
    "moved",
    "launches",
    "messages",
    "roofline",
    "binds",
  ]
  for column in columns:
    table.add_column(column, justify="left" if column in ("phase", "binds") else "right")
  for phase in target_plan.phases:
    table.add_row(*_row(target_plan, phase))
  console.print(table)
  for line in lines(target_plan, price):
    console.print(line, highlight=False, markup=False)
  return text.getvalue().rstrip()


def _row(target_plan, phase):
  need = plan.human(target_plan.resident + phase.memory.need)
  if phase.cost is None:
    return phase.name, f"{phase.calls:,}", need, *("-",) * 6
  c = phase.cost
  sent = sum(b for _, b in c.collectives.values())
  number = sum(n for n, _ in c.collectives.values())
  return (
    phase.name,
    f"{phase.calls:,}",
    need,
    f"{c.flops / 1e12:.3g}",
    plan.human(c.moved),
    f"{c.launches:,.0f}" if target_plan.target.kind == "gpu" else "-",  # a TPU launches one program
    f"{number:,.0f}: {plan.human(sent)}" if number else "none",
    duration(c.time),
    c.binds,
  )


def lines(target_plan: "TargetPlan", price: float) -> list[str]:
  """The facts that the table does not show, in sentences."""
  target = target_plan.target
  need = target_plan.need
  changed = target_plan.changed
  out = []
  if changed:
    is_other = any(change.startswith(("batch", "public_batch")) for change in changed)
    effect = "which is another experiment" if is_other else "with the same results"
    out.append(f"As configured it does not fit; compiled with {', '.join(changed)}, {effect}.")
  use = f"{need / GIB:.2f} of {target.memory / GIB:.2f} GiB per device"
  if target_plan.resident:
    use += f", {target_plan.resident / GIB:.2f} of them training data"
  if target_plan.fits:
    out.append(f"Fits: {use}.")
  else:
    more = math.ceil(need / target.memory)
    guess = f"if all of it is shared, {more} times the devices would do: compile for them to know"
    lacks = (need - target.memory) / GIB
    out.append(f"Does not fit: {use}, {lacks:.2f} too many; {guess}.")
  for phase in target_plan.phases:
    if phase.cost:
      out += [f"{phase.name}: {text}" for text in _products(phase.cost)]
      if target.kind == "gpu":
        out.append(f"{phase.name}: {_launches(phase.cost, target)}")
    if phase.estimate is not None:
      out.append(f"{phase.name}: {_estimate(phase)}")
  if not math.isnan(target_plan.seconds):
    hours = target_plan.seconds / 3600
    paid = f", {hours * target.size * price:,.2f} at {price:g} per device and hour" if price else ""
    total = f"Whole run: {duration(target_plan.seconds)} by the roofline"
    if target.kind == "gpu":
      replayed = sum(p.calls * p.cost.replayed for p in target_plan.phases if p.cost)
      total += f", {duration(replayed)} from command buffers"
    total += paid
    out.append(f"{total}; evaluations other than those of accuracy are not counted.")
  if target.size > target.host:
    rate = f"{target.network / 1e9:g} GB/s per device"
    out.append(f"Messages between hosts of {target.host:g} devices are priced at {rate}.")
  out.append("Memory and instructions are the compiler's; times follow data sheets, not a clock.")
  return out


def _estimate(phase):
  """A TPU compiler's own estimate, which counts the latency of kernels and messages."""
  text = f"the compiler's own estimate is {duration(phase.estimate)} per call"
  if phase.cost and phase.estimate > 2 * phase.cost.time:
    text += f", {phase.estimate / phase.cost.time:.0f} times the roofline's, which has no latency"
  return text + "."


def _launches(c, target):
  """The bounds of a GPU's launches: one by one, and all in command buffers.

  Command buffers are formed after the program's text is written, so the text does not show them.
  """
  each, replayed = duration(target.launch), duration(target.graph_launch)
  return (
    f"{c.launches:,.0f} launches at {each} each are {duration(c.time)} at most; all in command"
    f" buffers, at {replayed} each, {duration(c.replayed)}."
  )


def _products(c: Cost) -> list[str]:
  parts: dict[tuple[str, str], float] = {}
  layouts: dict[str, set[str]] = {}
  for (kind, dtype, layout), n in c.products.items():
    parts[kind, dtype] = parts.get((kind, dtype), 0) + n
    layouts.setdefault(kind, set()).add(layout)
  counts = [f"{n:,.0f} {kind}s in {dtype}" for (kind, dtype), n in sorted(parts.items())]
  dimensions = ", ".join(sorted(layouts.get("convolution", set())))
  return (
    [", ".join(counts) + (f"; dimensions {dimensions}" if dimensions else "")] if counts else []
  )


def duration(seconds: float) -> str:
  """Seconds in a unit that reads well."""
  units = ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)
  unit, size = next((pair for pair in units if seconds >= pair[1]), units[-1])
  value = seconds / size
  return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def forms(target: Target, plans: list[tuple[Form, "PhasePlan"]]) -> str:
  """A table with a row for every form of a step, in the given order."""
  from rich.console import Console
  from rich.table import Table

  text = io.StringIO()
  title = f"{plans[0][1].name}, {target.size} x {target.description} ({target.name}), in every form"
  table = Table(title=title, title_justify="left")
  columns = ("map, convolutions", "memory", "TFLOP", "moved", "launches", "roofline", "replayed")
  for column in columns:
    table.add_column(column, justify="left" if column == columns[0] else "right")
  table.add_column("of which")
  for form, phase in plans:
    name = f"{form.local_map}, {form.conv}"
    need = plan.human(phase.memory.need)
    if phase.cost is None:
      table.add_row(name, need, *("-",) * 5, "does not fit")
      continue
    c = phase.cost
    sides = sorted(c.seconds.items(), key=lambda side: -side[1])
    of_which = ", ".join(f"{duration(seconds)} {side}" for side, seconds in sides)
    cells = f"{c.flops / 1e12:.3g}", plan.human(c.moved), f"{c.launches:,.0f}"
    table.add_row(name, need, *cells, duration(c.time), duration(c.replayed), of_which)
  console = Console(file=text, width=140)
  console.print(table)
  console.print("replayed: if all kernels were launched from command buffers", highlight=False)
  return text.getvalue().rstrip()
