"""Figures of numbers that only some methods measure; None if the numbers are missing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kdjax.report import style, table
from kdjax.report.table import RunRecord

Group = Sequence[RunRecord]

SETS = {"overlap_test": "test data", "overlap_core": "core's data", "overlap_edge": "edge's data"}
PARTS = {"mutual": "both right", "exclusive": "core alone", "missed": "edge alone"}


def overlap(group: Group) -> Figure | None:
  """Areas of the examples that teacher and student classify correctly, and their consensus."""
  overlaps = {key: _overlaps(group[0].metrics, key) for key in SETS}
  found = {key: points for key, points in overlaps.items() if points}
  if not found:
    return None
  figure = style.figure(style.WIDE, style.HEIGHT)
  panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
  for axes, (key, points) in zip(panels, found.items(), strict=True):
    x = np.arange(1, len(points) + 1)
    areas = [[point[part] for point in points] for part in PARTS]
    axes.stackplot(x, areas, labels=PARTS.values(), colors=style.PALETTE, alpha=0.55, lw=0)
    consensus = [point["consensus"] for point in points]
    axes.plot(x, consensus, color=style.INK, marker="o", ms=3.5, label="consensus")
    axes.set(title=SETS[key], xlabel="evaluation", ylim=(0, 1.02))
    axes.locator_params(axis="x", integer=True)
  panels[0].set_ylabel("share of examples")
  panels[0].yaxis.set_major_formatter("{x:.0%}")
  handles, names = panels[0].get_legend_handles_labels()
  figure.legend(handles, names, loc="outside lower center", ncols=len(names))
  return figure


def _overlaps(metrics: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
  """The evaluations of one set: dicts of shares."""
  points = []
  for line in metrics:
    numbers = {name.removeprefix(f"{key}/"): v for name, v in line.items() if name.startswith(key)}
    if line["phase"] == "eval" and numbers:
      points.append(numbers | {"missed": numbers["teacher"] - numbers["mutual"]})
  return points


def confusion(group: Group) -> Figure | None:
  """One heat map per client: predicted classes in percent of each true class."""
  replicas = [r["confusion"] for r in table.results(group[0]) if r.get("confusion")]
  if not replicas:
    return None
  head = list(replicas[0])[-1]
  counts = np.mean([r[head] for r in replicas], axis=0)  # [K, C, C]
  shares = counts / np.maximum(counts.sum(2, keepdims=True), 1)
  columns = min(len(shares), 3)
  lines = -(-len(shares) // columns)
  figure = style.figure(style.WIDE, 0.2 + lines * (0.7 + 9.2 / columns), "compressed")
  grid = figure.subplots(lines, columns, squeeze=False)
  for k, axes in enumerate(grid.flat):
    if k >= len(shares):
      axes.remove()
      continue
    axes.imshow(shares[k], cmap="Blues", vmin=0, vmax=1)
    if shares.shape[1] <= 12:
      style.numbers(axes, 100 * shares[k], dark=shares[k] > 0.55, size=8)
    style.heat(axes)
    axes.set_title(f"client {k}", fontweight="bold")
    axes.set(xlabel="predicted class", ylabel="true class")
  return figure


def communication(group: Group) -> Figure | None:
  """Bytes by the paper's formulas, beside the bytes really sent."""
  summary = group[0].summary or {}
  if not summary.get("communication"):
    return None
  rows = {"really sent": sum(summary["bytes_sent"].values())} | summary["communication"]
  colours = [style.PALETTE[0]] + [style.QUIET] * len(summary["communication"])
  return style.bars([n.replace("_", " ") for n in rows], list(rows.values()), colours, table.size)


def flops(group: Group) -> Figure | None:
  """The FLOPs of each part of the method."""
  found = (group[0].summary or {}).get("flops")
  if not found:
    return None
  colours = [style.PALETTE[0]] * len(found)
  return style.bars(
    [n.replace("_", " ") for n in found], list(found.values()), colours, "{:.3g}".format
  )


def drift(group: Group) -> Figure | None:
  """The distance of the clients' extractors from their mean, over the training batches."""
  points = [(x["step"], x["drift"]) for x in group[0].metrics if x["phase"] == "drift"]
  if not points:
    return None
  figure = style.figure(style.WIDE, style.HEIGHT)
  axes = figure.subplots()
  axes.plot(*zip(*points, strict=True), marker="o", ms=3.5)
  axes.set(xlabel="training batches", ylabel="distance / norm")
  axes.set_ylim(bottom=0)
  return figure


FIGURES = (overlap, confusion, communication, flops, drift)
