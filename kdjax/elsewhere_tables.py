"""Plans for machines that are not here, as text."""

import io
import math
from typing import TYPE_CHECKING

from kdjax import plan
from kdjax.forms import Form
from kdjax.hardware.cost import Cost
from kdjax.hardware.target import GIB, Target

if TYPE_CHECKING:
  from kdjax.elsewhere import PhasePlan, TargetPlan


def render(found: "TargetPlan", price: float) -> str:
  """The plan as tables of text."""
  from rich.console import Console
  from rich.table import Table

  target, text = found.target, io.StringIO()
  console = Console(file=text, width=100)
  mesh = found.layout["mesh"]
  title = (
    f"{target.size} x {target.description} ({target.name}), mesh {mesh['client']} x {mesh['data']}"
  )
  table = Table(title=f"{title}, map {found.layout['map']}", title_justify="left")
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
  for phase in found.phases:
    table.add_row(*_row(found, phase))
  console.print(table)
  for line in lines(found, price):
    console.print(line, highlight=False, markup=False)
  return text.getvalue().rstrip()


def _row(found, phase):
  need = plan.human(found.resident + phase.memory.need)
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
    f"{c.launches:,.0f}" if found.target.kind == "gpu" else "-",  # a TPU's program is one
    f"{number:,.0f}: {plan.human(sent)}" if number else "none",
    duration(c.time),
    c.binds,
  )


def lines(found: "TargetPlan", price: float) -> list[str]:
  """What the table does not say, in sentences."""
  target = found.target
  out = []
  if found.changed:
    other = any(change.startswith(("batch", "public_batch")) for change in found.changed)
    same = ", which is another experiment" if other else ", results being the same"
    out.append(f"As configured it does not fit; compiled with {', '.join(found.changed)}{same}.")
  there = f"{found.need / GIB:.2f} of {target.memory / GIB:.2f} GiB a device"
  if found.resident:
    there += f", {found.resident / GIB:.2f} of them training data"
  if found.fits:
    out.append(f"Fits: {there}.")
  else:
    more = math.ceil(found.need / target.memory)
    guess = f"if all of it is shared, {more} times the devices would do: compile for them to know"
    lacks = (found.need - target.memory) / GIB
    out.append(f"Does not fit: {there}, {lacks:.2f} too many; {guess}.")
  for phase in found.phases:
    if phase.cost:
      out += [f"{phase.name}: {text}" for text in _products(phase.cost)]
      if target.kind == "gpu":
        out.append(f"{phase.name}: {_launches(phase.cost, target)}")
    if phase.estimate is not None:
      out.append(f"{phase.name}: {_estimate(phase)}")
  if not math.isnan(found.seconds):
    hours = found.seconds / 3600
    paid = f", {hours * target.size * price:,.2f} at {price:g} a device and hour" if price else ""
    least = "never less"
    if target.kind == "gpu":
      replayed = sum(p.calls * p.cost.replayed for p in found.phases if p.cost)
      least = f"never less than {duration(replayed)}, from command buffers"
    whole = f"Whole run: {duration(found.seconds)} by the roofline, {least}{paid}"
    out.append(f"{whole}; evaluations but those of accuracy are not counted.")
  if target.size > target.host:
    rate = f"{target.network / 1e9:g} GB/s a device"
    out.append(f"Messages between hosts of {target.host:g} devices are priced at {rate}.")
  out.append("Memory and instructions: the compiler's word; times: data sheet rates, no clock.")
  return out


def _estimate(phase):
  """A TPU's compiler knows what starting a kernel or a message takes, the roofline does not."""
  said = f"the compiler's own estimate is {duration(phase.estimate)} a call"
  if phase.cost and phase.estimate > 2 * phase.cost.time:
    said += f", {phase.estimate / phase.cost.time:.0f} times the roofline's, which has no latency"
  return said + "."


def _launches(c, target):
  """Kernels form command buffers after the program is written, so its text has none."""
  each, replayed = duration(target.launch), duration(target.graph_launch)
  return (
    f"{c.launches:,.0f} launches at {each} each are {duration(c.time)} at most; all in command"
    f" buffers, at {replayed} each, {duration(c.replayed)}."
  )


def _products(c: Cost) -> list[str]:
  parts: dict[tuple[str, str], float] = {}
  layouts: dict[str, set[str]] = {}
  for (kind, dtype, laid), n in c.products.items():
    parts[kind, dtype] = parts.get((kind, dtype), 0) + n
    layouts.setdefault(kind, set()).add(laid)
  found = [f"{n:,.0f} {kind}s in {dtype}" for (kind, dtype), n in sorted(parts.items())]
  laid = ", ".join(sorted(layouts.get("convolution", set())))
  return [", ".join(found) + (f"; dimensions {laid}" if laid else "")] if found else []


def duration(seconds: float) -> str:
  """Seconds in a unit that reads well."""
  units = ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)
  unit, size = next((u for u in units if seconds >= u[1]), units[-1])
  value = seconds / size
  return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def forms(target: Target, found: list[tuple[Form, "PhasePlan"]]) -> str:
  """A row for every form of a step, in the order that is given."""
  from rich.console import Console
  from rich.table import Table

  text = io.StringIO()
  title = f"{found[0][1].name}, {target.size} x {target.description} ({target.name}), in every form"
  table = Table(title=title, title_justify="left")
  columns = ("map, convolutions", "memory", "TFLOP", "moved", "launches", "roofline", "replayed")
  for column in columns:
    table.add_column(column, justify="left" if column == columns[0] else "right")
  table.add_column("of which")
  for form, phase in found:
    name, need = f"{form.local_map}, {form.conv}", plan.human(phase.memory.need)
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
  console.print("replayed: were all kernels launched from command buffers", highlight=False)
  return text.getvalue().rstrip()
