"""The figures of a report, drawn from run folders.

Every figure takes the runs as `table.read_runs` gives them, the run itself first, and returns a
matplotlib Figure, or None where its numbers are missing.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kdjax.report import method_figures, style, table
from kdjax.report.table import RunRecord

if TYPE_CHECKING:
  from matplotlib.figure import Figure

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


class Drawn(NamedTuple):
  """One figure of a page."""

  light: Path  # the PNG; an SVG and a PDF lie beside it
  dark: bytes  # a PNG


def draw(group: list[RunRecord], folder: Path) -> dict[str, Drawn]:
  """Draws every figure whose numbers are there: PNG, SVG and PDF files, and a dark PNG.

  Args:
    group: what `table.read_runs` gives.
    folder: the files' folder; made where it is missing.

  Returns:
    {figure: what was drawn}, in the order of the report.
  """
  from matplotlib import rc_context

  figures = (
    shared,
    private,
    losses,
    *method_figures.FIGURES,
    distances,
    owners,
    labels,
    graph,
    traffic,
  )
  out = {}
  folder.mkdir(exist_ok=True)
  for make in figures:
    paths = [folder / f"{make.__name__}.{kind}" for kind in ("png", "svg", "pdf")]
    with rc_context(style.theme(style.LIGHT)):
      figure = make(group)
      if figure is None:
        for path in paths:
          path.unlink(missing_ok=True)  # an older report's
        continue
      for path in paths:
        figure.savefig(path, dpi=style.PIXELS / figure.get_figwidth(), metadata=PLAIN[path.suffix])
    with rc_context(style.theme(style.DARK)):
      dark, at_night = io.BytesIO(), make(group)
      assert at_night is not None, make.__name__  # its numbers were there by day
      at_night.savefig(dark, dpi=style.PIXELS / at_night.get_figwidth())
    out[make.__name__] = Drawn(paths[0], dark.getvalue())
  return out


PLAIN = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # same bytes again


def shared(group: list[RunRecord]) -> "Figure | None":
  """Shared accuracy of every head over the run, and of each baseline's main head."""
  return _accuracy(group, "shared_accuracy", "shared accuracy")


def private(group: list[RunRecord]) -> "Figure | None":
  """Private accuracy of every head over the run, and of each baseline's main head."""
  return _accuracy(group, "private_accuracy", "private accuracy")


def _accuracy(group, key, label):
  curves = [table.curves(run, key) for run in group]
  if not curves[0]:
    return None
  ends = [_last_step(found) for found in curves if found]
  shares = max(ends) > 1.05 * min(ends)  # other rhythms: each over its own run
  figure = style.figure(style.NARROW, style.HEIGHT + 0.11 * len(group))
  axes = figure.subplots()
  _own_heads(axes, curves[0], shares, alone=len(group) == 1, run=group[0])
  for i, (run, found) in enumerate(zip(group[1:], curves[1:], strict=True)):
    if found:
      head = "main" if "main" in found else next(iter(found))
      _baseline(axes, i, f"{run.name} ({head})", found[head], shares)
  axes.set_ylim(0, np.clip(1.1 * max(style.drawn(axes), default=1.0), 0.05, 1.02))
  axes.set_ylabel(label)
  axes.yaxis.set_major_formatter("{x:.0%}")
  style.over_steps(figure, axes)
  if shares:
    axes.set_xlabel("share of each one's own run")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.locator_params(axis="x", nbins=5, integer=False)
  return figure


def _last_step(found):
  return max(points[-1, 0] for points in found.values())


def _over(points, shares):
  """(x, mean, spread) of a curve."""
  step, mean, spread = points.T
  return (step / step[-1] if shares else step), mean, spread


def _own_heads(axes, found, shares, *, alone, run):
  """The run's heads with bands; beside baselines in shades of one colour, the last plainest."""
  colours = style.colours(run)
  if not alone:
    from matplotlib import colormaps

    dim, plain = style.shades()
    shades = np.linspace(dim, plain, len(found)) if len(found) > 1 else [plain]
    colours = {h: colormaps["Blues"](s) for h, s in zip(found, shades, strict=True)}
  for head, points in found.items():
    x, mean, spread = _over(points, shares)
    marker = "o" if len(x) <= 25 and alone else None  # a single point would not be seen without
    marker = "o" if len(x) == 1 else marker
    name = head if alone else f"{run.name} {head}"
    axes.plot(x, mean, color=colours[head], label=name, marker=marker, ms=3.5, lw=2.0)
    low, high = np.clip([mean - spread, mean + spread], 0, 1)  # no accuracy lies outside
    axes.fill_between(x, low, high, color=colours[head], alpha=0.13, lw=0)


def _baseline(axes, i, name, points, shares):
  """A baseline: a colour, a dash and a marker of its own."""
  x, mean, _ = _over(points, shares)
  look = {"color": style.OTHERS[i % len(style.OTHERS)], "ls": style.DASHES[i % len(style.DASHES)]}
  marker, every = style.MARKERS[i % len(style.MARKERS)], max(1, len(x) // 6)
  axes.plot(x, mean, label=name, marker=marker, ms=4, markevery=every, lw=1.3, **look)


def losses(group: list[RunRecord]) -> "Figure | None":
  """All numbers of the lines of metrics.jsonl that have a `loss`, but learning rate and speed."""
  found: dict[tuple[str, str], list[tuple[float, float]]] = {}
  for line in group[0].metrics:
    for key in line if "loss" in line else ():
      if key not in NOT_LOSSES:
        found.setdefault((line["phase"], key), []).append((line["step"], line[key]))
  if not found:
    return None
  figure = style.figure(style.NARROW, style.HEIGHT)
  axes, colours = figure.subplots(), style.colours(group[0])
  several = len({phase for phase, _ in found}) > 1
  rest = iter(style.PALETTE[::-1] * len(found))
  for (phase, key), points in found.items():
    step, value = np.array(points, float).T
    total = key == "loss"
    colour = style.ink() if total and not several else colours.get(key) or next(rest)
    label = f"{phase}: {key}" if several else key
    axes.plot(step, value, color=colour, label=label, lw=2.2 if total else 1.3)
  low, high = min(style.drawn(axes), default=0.0), max(style.drawn(axes), default=1.0)
  if low > 0 and high > 50 * low:
    axes.set_yscale("log")
  else:
    axes.set_ylim(bottom=min(0.0, low))
  axes.set_ylabel("loss")
  style.over_steps(figure, axes)
  return figure


def distances(group: list[RunRecord]) -> "Figure | None":
  """Accuracy per head on the labels of clients at graph distance 0 (its own), 1, 2, ..."""
  found: dict[str, dict[str, list[float]]] = {}
  for result in style.results(group[0]):
    for head, numbers in result.get("accuracy_by_distance", {}).items():
      for distance, value in numbers.items():
        found.setdefault(head, {}).setdefault(distance, []).append(value)
  met = {distance for numbers in found.values() for distance in numbers}
  places = sorted(met, key=lambda d: (d == "unreachable", len(d), d))
  if not places:
    return None
  figure = style.figure(style.NARROW, style.HEIGHT)
  axes, colours, width = figure.subplots(), style.colours(group[0]), 0.84 / len(found)
  for i, (head, numbers) in enumerate(found.items()):
    x = [places.index(distance) + (i - (len(found) - 1) / 2) * width for distance in numbers]
    height = [np.mean(np.array(values, float)) for values in numbers.values()]
    bars = axes.bar(x, height, 0.92 * width, color=colours[head], label=head)
    if len(found) * len(places) <= 20:
      axes.bar_label(bars, [f"{100 * h:.0f}" for h in height], padding=1.5, fontsize=7.5)
  axes.set_xticks(range(len(places)), [f"{d} (own)" if d == "0" else d for d in places])
  axes.set(xlabel="graph distance from student to teacher", ylim=(0, 1.07))
  axes.set_ylabel("accuracy on the teacher's labels")
  axes.yaxis.set_major_formatter("{x:.0%}")
  style.legend(figure, axes)
  return figure


def owners(group: list[RunRecord]) -> "Figure | None":
  """A heat map a head: each client's accuracy on each client's label distribution."""
  found: dict[str, list[np.ndarray]] = {}
  for result in style.results(group[0]):
    for head, matrix in result.get("accuracy_by_owner", {}).items():
      found.setdefault(head, []).append(np.atleast_2d(np.array(matrix, float)))
  if not found:
    return None
  columns = len(found) if len(found) <= 4 else 3
  lines = -(-len(found) // columns)
  figure = style.figure(style.WIDE, 0.2 + lines * min(0.7 + 9.2 / columns, 4.2), "compressed")
  grid = figure.subplots(lines, columns, squeeze=False)
  for axes, (head, replicas) in zip(grid.flat, found.items(), strict=False):
    matrix = np.mean(replicas, axis=0)
    image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    if matrix.shape[1] <= 8:
      style.numbers(
        axes, 100 * matrix, dark=matrix > 0.55, size=min(9.0, 250 / columns / matrix.shape[1])
      )
    style.heat(axes)
    axes.set_title(head, fontweight="bold")
    axes.set(xlabel="labels of client", ylabel="client")
  for axes in grid.flat[len(found) :]:
    axes.remove()
  used = list(grid.flat[: len(found)])
  bar = figure.colorbar(image, ax=used, shrink=0.75, pad=0.015, format="{x:.0%}")
  bar.outline.set_visible(False)
  return figure


def labels(group: list[RunRecord]) -> "Figure | None":
  """How many private examples of each class every client holds."""
  results = style.results(group[0])
  counts = np.array(results[0].get("label_counts", []) if results else [])
  if not counts.size:
    return None
  figure = style.figure(style.WIDE, min(1.2 + 0.3 * len(counts), 5.0))
  axes = figure.subplots()
  image = axes.imshow(counts, aspect="auto", cmap="Blues", vmin=0, interpolation="nearest")
  if max(counts.shape) <= 20 and counts.max() < 10_000:
    style.numbers(axes, counts, dark=counts > 0.55 * counts.max(), size=9)
  style.heat(axes)
  axes.set(xlabel="class", ylabel="client")
  figure.colorbar(image, ax=axes, pad=0.015, label="examples").outline.set_visible(False)
  return figure


def graph(group: list[RunRecord]) -> "Figure | None":
  """Who learns from whom: clients on a circle, an arrow from each student to its teachers."""
  results = style.results(group[0])
  edges = [edge for edge in results[0].get("edges", []) if edge[0] != edge[1]] if results else []
  if not edges:
    return None
  from matplotlib.patches import Circle

  student, teacher = np.array(edges).T
  count = max(len(results[0].get("label_counts", [])), student.max() + 1, teacher.max() + 1)
  angle = np.pi / 2 - 2 * np.pi * np.arange(count) / count
  centre = np.stack([np.cos(angle), np.sin(angle)], axis=1)
  radius = min(0.13, 0.6 * np.pi / count)
  along = centre[teacher] - centre[student]
  along *= radius / np.linalg.norm(along, axis=1, keepdims=True)
  start, stop = centre[student] + along, centre[teacher] - along  # from rim to rim
  figure = style.figure(style.NARROW, style.HEIGHT)
  axes = figure.subplots()
  scale: dict[str, Any] = {
    "angles": "xy",
    "scale_units": "xy",
    "scale": 1,
    "units": "height",
    "width": 0.005,
  }
  faint = max(0.08, min(0.9, 60 / len(edges)))  # where arrows are many, each is fainter
  axes.quiver(
    *start.T, *(stop - start).T, color=style.PALETTE[0], alpha=faint, headwidth=6, **scale
  )
  for client, (x, y) in enumerate(centre):
    axes.add_patch(Circle((x, y), radius, facecolor=style.paper(), edgecolor=style.ink(), lw=1.1))
    size = min(11.0, 80 * radius)
    axes.text(x, y, str(client), ha="center", va="center_baseline", fontsize=size)
  axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
  axes.set_axis_off()
  return figure


def traffic(group: list[RunRecord]) -> "Figure | None":
  """Bytes sent by kind, of the run and of its baselines."""
  found = [
    (
      kind if i == 0 else f"{run.name}: {kind}",
      count,
      style.PALETTE[0] if i == 0 else style.quiet(),
    )
    for i, run in enumerate(group)
    for kind, count in (run.summary or {}).get("bytes_sent", {}).items()
    if count > 0
  ]
  if not found:
    return None
  names, counts, colours = zip(*found, strict=True)
  return style.bars(list(names), list(counts), list(colours), table.size)
