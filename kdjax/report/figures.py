"""The figures of a report, drawn from run folders.

Every figure takes the runs of `table.read_runs`, the run itself first, and returns a matplotlib
Figure, or None if its numbers are missing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from kdjax.core import metrics
from kdjax.report import curve_figures, method_figures, style, table
from kdjax.report.table import RunRecord

Group = Sequence[RunRecord]
ENDINGS = (".png", ".svg", ".pdf")


def draw(group: Group, folder: Path, *, pdf: bool = True) -> dict[str, Path]:
  """Draws every figure whose numbers exist, and saves it as PNG, SVG and, on request, PDF.

  Args:
    group: the runs of `table.read_runs`.
    folder: the folder of the files; made if it is missing.
    pdf: whether to draw PDFs too.

  Returns:
    {figure: path of its SVG}, in the order of the report.
  """
  paths = {}
  folder.mkdir(exist_ok=True)
  with rc_context(style.STYLE):
    for make in FIGURES:
      path = folder / make.__name__
      figure = make(group)
      if figure is None:
        for ending in ENDINGS:
          path.with_suffix(ending).unlink(missing_ok=True)  # the file of an older report
      else:
        style.save(figure, path, pdf=pdf)
        paths[make.__name__] = path.with_suffix(".svg")
  return paths


def distances(group: Group) -> Figure | None:
  """Accuracy per head on the labels of clients at graph distance 0 (their own), 1, 2, ..."""
  found: dict[str, dict[str, list[float]]] = {}
  for result in table.results(group[0]):
    for head, numbers in result.get("accuracy_by_distance", {}).items():
      for distance, value in numbers.items():
        found.setdefault(head, {}).setdefault(distance, []).append(value)
  hops = {distance for numbers in found.values() for distance in numbers}
  places = sorted(hops, key=lambda d: (d == "unreachable", len(d), d))
  if not places:
    return None
  figure = style.figure(style.NARROW, style.HEIGHT)
  axes, colours, width = figure.subplots(), style.colours(group[0]), 0.84 / len(found)
  for i, (head, numbers) in enumerate(found.items()):
    x = [places.index(distance) + (i - (len(found) - 1) / 2) * width for distance in numbers]
    height = [metrics.mean_of_known(values) for values in numbers.values()]
    bars = axes.bar(x, height, 0.92 * width, color=colours[head], label=head)
    if len(found) * len(places) <= 20:
      axes.bar_label(bars, [f"{100 * h:.0f}" for h in height], padding=1.5, fontsize=7.5)
  axes.set_xticks(range(len(places)), [f"{d} (own)" if d == "0" else d for d in places])
  axes.set(xlabel="graph distance from student to teacher", ylim=(0, 1.07))
  axes.set_ylabel("accuracy on the teacher's labels")
  axes.yaxis.set_major_formatter("{x:.0%}")
  style.legend(figure, axes)
  return figure


def owners(group: Group) -> Figure | None:
  """One heat map per head: each client's accuracy on each client's label distribution."""
  found: dict[str, list[np.ndarray]] = {}
  for result in table.results(group[0]):
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


def labels(group: Group) -> Figure | None:
  """The number of private examples of each class that every client holds."""
  results = table.results(group[0])
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


def graph(group: Group) -> Figure | None:
  """The graph: clients on a circle, an arrow from each student to its teachers."""
  results = table.results(group[0])
  edges = [edge for edge in results[0].get("edges", []) if edge[0] != edge[1]] if results else []
  if not edges:
    return None
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
  faint = max(0.08, min(0.9, 60 / len(edges)))  # the more arrows, the fainter each
  axes.quiver(
    *start.T, *(stop - start).T, color=style.PALETTE[0], alpha=faint, headwidth=6, **scale
  )
  for client, (x, y) in enumerate(centre):
    axes.add_patch(Circle((x, y), radius, facecolor=style.PAPER, edgecolor=style.INK, lw=1.1))
    size = min(11.0, 80 * radius)
    axes.text(x, y, str(client), ha="center", va="center_baseline", fontsize=size)
  axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
  axes.set_axis_off()
  return figure


def traffic(group: Group) -> Figure | None:
  """Bytes sent by kind, of the run and of its baselines."""
  found = [
    (
      kind if i == 0 else f"{run.name}: {kind}",
      count,
      style.PALETTE[0] if i == 0 else style.QUIET,
    )
    for i, run in enumerate(group)
    for kind, count in (run.summary or {}).get("bytes_sent", {}).items()
    if count > 0
  ]
  if not found:
    return None
  names, counts, colours = zip(*found, strict=True)
  return style.bars(list(names), list(counts), list(colours), table.size)


FIGURES = (
  *curve_figures.FIGURES,
  *method_figures.FIGURES,
  distances,
  owners,
  labels,
  graph,
  traffic,
)
