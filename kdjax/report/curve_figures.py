"""Curves over a run, and methods beside each other; None where the numbers are missing."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kdjax.report import style, table
from kdjax.report.table import RunRecord

Group = Sequence[RunRecord]
NOT_LOSSES = (
  "step",
  "phase",
  "lr",
  "images_per_second",
  "input_bound",
  "train_accuracy",
  "jump",
  "flag",
)
FEW = 25  # up to so many points each has a marker, without which a single point is invisible


def shared(group: Group) -> Figure | None:
  """Shared accuracy of every head over the run."""
  return _heads(group[0], "shared_accuracy", "shared accuracy")


def private(group: Group) -> Figure | None:
  """Private accuracy of every head over the run."""
  return _heads(group[0], "private_accuracy", "private accuracy")


def _heads(run: RunRecord, key: str, label: str) -> Figure | None:
  found = table.curves(run, key)
  if not found:
    return None
  figure = style.figure(style.NARROW, style.HEIGHT)
  axes, colours = figure.subplots(), style.colours(run)
  for i, (head, points) in enumerate(found.items()):
    step, mean, spread = points.T
    marker = style.MARKERS[i % len(style.MARKERS)] if len(step) <= FEW else None
    axes.plot(step, mean, color=colours[head], label=head, marker=marker, ms=3.5)
    low, high = np.clip([mean - spread, mean + spread], 0, 1)
    axes.fill_between(step, low, high, color=colours[head], alpha=0.13, lw=0)
  style.accuracy_axis(axes, label)
  style.over_steps(figure, axes)
  return figure


def methods_shared(group: Group) -> Figure | None:
  """Shared accuracy of the run and of every baseline, each over its own run."""
  return _methods(group, "shared_accuracy", "shared accuracy")


def methods_private(group: Group) -> Figure | None:
  """Private accuracy of the run and of every baseline, each over its own run."""
  return _methods(group, "private_accuracy", "private accuracy")


def same_rhythm(group: Group) -> bool:
  """Whether all runs take the same number of steps, so that a step can be compared."""
  return len({_length(run) for run in group}) == 1


def _length(run: RunRecord) -> int:
  """Steps of a whole run; for an unfinished run in rounds, the steps so far."""
  if run.summary is not None:
    return run.summary["steps"]
  so_far = max((line["step"] for line in run.metrics), default=1)
  return run.record.get("config", {}).get("steps") or so_far


def _methods(group: Group, key: str, label: str) -> Figure | None:
  own, *others = group
  found = table.curves(own, key)
  if not found or not others:
    return None
  figure = style.figure(style.NARROW, 3.2 + 0.11 * len(group))
  axes, percent = figure.subplots(), not same_rhythm(group)
  at = lambda run, step: step / _length(run) if percent else step
  for i, run in enumerate(others, 1):
    curves = table.curves(run, key)
    if curves:
      head = most_taught(curves) if key == "shared_accuracy" else representative(curves)
      name = run.name if head == "main" else f"{run.name} {head}"
      _baseline(axes, at(run, curves[head][:, 0]), curves[head][:, 1], name, i)
  for head, dashes in {representative(found): (0, (3, 1.2)), list(found)[-1]: "-"}.items():
    step, mean, _ = found[head].T
    name = f"{own.name} {head} {table.percent(mean[-1])}"
    marker = "o" if len(step) == 1 else None
    axes.plot(
      at(own, step), mean, color=style.PALETTE[0], lw=2.8, ls=dashes, label=name, marker=marker
    )
  style.accuracy_axis(axes, label)
  _progress(axes, percent)
  _ranked_legend(figure, axes)
  return figure


def most_taught(found: Iterable[str]) -> str:
  """The head that has learned most from others: the last auxiliary one, or `representative`."""
  auxiliary = [head for head in found if head.startswith("aux")]
  return auxiliary[-1] if auxiliary else representative(found)


def representative(found: Iterable[str]) -> str:
  """The head that stands for a method beside others: its main head, or the first entry."""
  names = list(found)
  return "main" if "main" in names else names[0]


def _baseline(axes: Axes, x: np.ndarray, mean: np.ndarray, name: str, i: int) -> None:
  """Draws a baseline's curve with about six markers, placed apart from its neighbours'."""
  every = max(1, -(-len(x) // 6))
  axes.plot(
    x,
    mean,
    color=style.PALETTE[1:][(i - 1) % (len(style.PALETTE) - 1)],
    lw=1.4,
    marker=style.MARKERS[i % len(style.MARKERS)],
    markevery=(i % every, every),
    ms=4.5,
    label=f"{name} {table.percent(mean[-1])}",
  )


def _progress(axes: Axes, percent: bool) -> None:
  axes.set_xlabel("share of each method's own run" if percent else "training step")
  axes.locator_params(axis="x", nbins=6)
  axes.xaxis.set_major_formatter(PercentFormatter(1) if percent else "{x:,.0f}")
  axes.grid(axis="y")


def _ranked_legend(figure: Figure, axes: Axes) -> None:
  """A legend below, two columns, in the order in which the curves end."""
  last = lambda line: -np.nan_to_num(np.asarray(line.get_ydata(), float)[-1])
  figure.legend(
    handles=sorted(axes.lines, key=last),
    loc="outside lower center",
    ncols=2,
    fontsize=8.5,
    handlelength=2.6,
  )


def methods(group: Group) -> Figure | None:
  """Where every method ended in shared accuracy: mean, standard deviation, every single value."""
  found = [
    (run.name, head, values, i == 0)
    for i, run in enumerate(group)
    for head, values in final_values(run).items()
  ]
  if len(group) < 2 or not found:
    return None
  found.sort(key=lambda entry: -np.mean(entry[2]))
  figure = style.figure(style.NARROW, 0.7 + 0.24 * len(found))
  axes = figure.subplots()
  for y, (_, _, values, own) in enumerate(found):
    colour = style.PALETTE[0] if own else style.QUIET
    mean, spread = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
    low, high = np.clip([mean - spread, mean + spread], 0, 1)
    axes.plot([low, high], [y, y], color=colour, lw=2.2 if own else 1.4, solid_capstyle="butt")
    axes.plot(values, np.full(len(values), y), "|", color=colour, ms=7, mew=1)
    axes.plot(mean, y, "o", color=colour, ms=6 if own else 5)
  axes.set_yticks(range(len(found)), [f"{name} {head}" for name, head, *_ in found])
  axes.set(ylim=(len(found) - 0.5, -0.5), xlim=(0, 1), xlabel="shared accuracy")
  axes.xaxis.set_major_formatter(PercentFormatter(1))
  axes.grid(axis="x")
  axes.tick_params(axis="y", length=0)
  return figure


def final_values(run: RunRecord) -> dict[str, np.ndarray]:
  """{head: f64[n]}: a finished run's shared accuracies, per seed, or per client of one seed."""
  found = table.results(run)
  if len(found) == 1:
    clients = found[0].get("shared_accuracy", {})
    return {head: np.atleast_1d(np.array(v, float)) for head, v in clients.items()}
  return table.over_clients(found, "shared_accuracy")


def losses(group: Group) -> Figure | None:
  """The numbers in the lines of metrics.jsonl that have a `loss`, without `NOT_LOSSES`."""
  series: dict[tuple[str, str], list[tuple[int, float]]] = {}
  for line in group[0].metrics:
    for key in line if "loss" in line else ():
      if key not in NOT_LOSSES:
        series.setdefault((line["phase"], key), []).append((line["step"], line[key]))
  if not series:
    return None
  figure = style.figure(style.NARROW, style.HEIGHT)
  axes, colours = figure.subplots(), style.colours(group[0])
  has_several = len({phase for phase, _ in series}) > 1
  rest = iter(style.PALETTE[::-1] * len(series))
  for (phase, key), points in series.items():
    step, value = np.array(points, float).T
    is_total = key == "loss"
    colour = style.INK if is_total and not has_several else colours.get(key) or next(rest)
    label = f"{phase}: {key}" if has_several else key
    marker = "o" if len(step) == 1 else None  # a line of one point is invisible
    axes.plot(step, value, color=colour, label=label, lw=2.2 if is_total else 1.3, marker=marker)
  low = min(style.drawn(axes), default=0.0)
  high = max(style.drawn(axes), default=1.0)
  if low > 0 and high > 50 * low:
    axes.set_yscale("log")
  else:
    axes.set_ylim(bottom=min(0.0, low))
  axes.set_ylabel("loss")
  style.over_steps(figure, axes)
  return figure


FIGURES = (methods, methods_shared, methods_private, shared, private, losses)
