"""Draws a paper's figures in the paper's own form from finished runs, as SVG, PNG and PDF."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import EngFormatter, NullLocator

from kdjax.report import style, table
from kdjax.reproduce import numbers
from kdjax.reproduce.claims import (
  Costs,
  Curves,
  Figure,
  Lines,
  Matrices,
  Paper,
  Table,
  Task,
  arms_of,
)
from kdjax.reproduce.runs import Asked, NotHere, Run, runs
from kdjax.types import ConfigError

BAND = "band: ± standard deviation over seeds, and clients where there are several"


def draw(asked: Asked, paper: Paper, one: Figure, task: Task, place: Path) -> Path | None:
  """Draws a figure of a task into `place`.svg, .png and .pdf.

  Returns:
    The path of the SVG; None if a run is missing, and for a table.

  Raises:
    ConfigError: if a run did not measure a quantity of the figure.
  """
  arms = {arm: runs(asked, paper, task, arm) for arm in arms_of(one)}
  results: dict[str, list[dict[str, Any]]] = {}
  for arm, blocks in arms.items():
    found = numbers.results(blocks)
    if found is None:
      return None
    results[arm] = found
  if isinstance(one, Table):
    return None
  place.parent.mkdir(parents=True, exist_ok=True)
  with rc_context(style.STYLE):
    match one:
      case Lines():
        picture = _lines(one, results)
      case Curves():
        picture = _curves(one, {arm: b for arm, b in arms.items() if not isinstance(b, NotHere)})
      case Matrices():
        picture = _matrices(one, results)
      case Costs():
        picture = _costs(one, results)
    style.save(picture, place)
  return place.with_suffix(".svg")


def _lines(one: Lines, results: dict[str, list[dict[str, Any]]]) -> Picture:
  """One line per series over the x axis, with the standard deviation over seeds."""
  picture = style.figure(style.NARROW, style.HEIGHT)
  axes = picture.subplots()
  x = np.arange(len(one.x))
  for i, (label, quantities) in enumerate(one.series.items()):
    found = np.array([numbers.values(q, results[q.arm]) for q in quantities])  # [x, seeds]
    axes.errorbar(
      x[: len(found)], found.mean(1), found.std(1, ddof=1), label=label, **_look(i), capsize=2
    )
  axes.set_xticks(x, one.x)
  axes.set(xlabel=one.xlabel, ylabel=one.ylabel)
  axes.grid(axis="y")
  style.legend(picture, axes)
  return picture


def _curves(one: Curves, arms: dict[str, list[Run]]) -> Picture:
  """Logged numbers over the run, means over seeds and clients; accuracies in percent.

  The band is `KEY/std` of the log; a number without it is drawn without a band.
  """
  picture = style.figure(style.NARROW, style.HEIGHT)
  axes = picture.subplots()
  for i, (label, (arm, key)) in enumerate(one.series.items()):
    step, mean, spread = pooled([_logged(run, key) for run in arms[arm]]).T
    look = _look(i)
    axes.plot(step, mean, label=label, **look)
    if not np.isnan(spread).all():
      axes.fill_between(step, mean - spread, mean + spread, color=look["color"], alpha=0.13, lw=0)
      axes.set_title(BAND, loc="left", fontsize=8, color=style.QUIET)
  if all(_is_accuracy(key) for _, key in one.series.values()):
    low, high = axes.get_ylim()
    room = max(0.0, (0.06 - (high - low)) / 2)
    axes.set_ylim(low - room, high + room)
    axes.locator_params(axis="y", steps=[1, 2, 5, 10])  # whole points
    axes.yaxis.set_major_formatter("{x:.0%}")
  axes.set(xlabel="training step", ylabel=one.ylabel)
  axes.grid(axis="y")
  style.legend(picture, axes)
  return picture


def _is_accuracy(key: str) -> bool:
  """Whether a key of metrics.jsonl is an accuracy: 'shared_accuracy/main', 'train_accuracy'."""
  return key.partition("/")[0].endswith("_accuracy")


def _logged(run: Run, key: str) -> np.ndarray:
  """f64[points, 3] of a key of metrics.jsonl: step, mean, and spread or NaN."""
  lines = table.read_runs(run.point.folder)[0].metrics
  found = [(x["step"], x[key], x.get(f"{key}/std", np.nan)) for x in lines if key in x]
  if not found:
    raise ConfigError("curve", key, f"must be a key of {run.point.folder}/metrics.jsonl")
  return np.array(found, float)


def pooled(blocks: Sequence[np.ndarray]) -> np.ndarray:
  """Mean and spread over several blocks of equally many seeds, from those of each block.

  Args:
    blocks: f64[points, 3] each: step, mean and standard deviation over the block.

  Returns:
    f64[points, 3], as long as the shortest block; the deviation is that of all values together.
  """
  shortest = min(map(len, blocks))
  step, means, spreads = np.stack([block[:shortest] for block in blocks]).transpose(2, 0, 1)
  mean = means.mean(0)
  return np.stack([step[0], mean, np.sqrt((spreads**2 + (means - mean) ** 2).mean(0))], 1)


def _matrices(one: Matrices, results: dict[str, list[dict[str, Any]]]) -> Picture:
  """Matrices over seeds and clients; counts in percent of their rows, accuracies as they are."""
  picture = style.figure(style.WIDE, style.HEIGHT)
  panels = picture.subplots(1, len(one.entries), squeeze=False)[0]
  for axes, (label, (arm, key, entry)) in zip(panels, one.entries.items(), strict=True):
    found = np.array([r[key][entry] for r in results[arm]], float)
    if found.ndim == 4:  # [seeds, K, C, C]; else [seeds, K, K]
      chosen = found[:, list(one.clients)] if one.clients else found
      counts = chosen.mean((0, 1))
      shares = counts / np.maximum(counts.sum(1, keepdims=True), 1e-9)
      axes.set(xlabel="called", ylabel="is")
    else:
      shares = found.mean(0)
      axes.set(xlabel="on the labels of client", ylabel="client")
    shares = numbers.PERCENT * shares
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=numbers.PERCENT)
    style.heat(axes)
    style.numbers(axes, shares, dark=shares > numbers.PERCENT / 2, size=7)
    axes.set_title(label)
  return picture


def _costs(one: Costs, results: dict[str, list[dict[str, Any]]]) -> Picture:
  """One point per arm: its cost, and its quantity with the standard deviation over seeds."""
  picture = style.figure(style.NARROW, style.HEIGHT)
  axes = picture.subplots()
  costs = []
  for i, (label, quantity) in enumerate(one.series.items()):
    found = numbers.values(quantity, results[quantity.arm])
    costs.append(float(np.mean([numbers.cost_of(one.cost, r) for r in results[quantity.arm]])))
    height = ([found.mean()], [found.std(ddof=1)])
    axes.errorbar(costs[-1:], *height, label=label, **_look(i), capsize=2)
  if max(costs) < 10 * min(costs):  # a logarithmic axis would have no labelled tick
    axes.set_xlim(0, 1.1 * max(costs))
  else:  # 0 is on the axis; the range below the least cost is as wide as a decade
    least = math.floor(math.log10(min(c for c in costs if c > 0)))
    most = math.ceil(math.log10(max(costs)))
    axes.set_xscale("symlog", linthresh=10.0**least)
    axes.set_xticks([0, *(10.0**n for n in range(least, most + 1))])
    axes.xaxis.set_minor_locator(NullLocator())
  axes.xaxis.set_major_formatter(EngFormatter())
  axes.set(xlabel=one.xlabel, ylabel=one.ylabel)
  axes.grid()
  style.legend(picture, axes)
  return picture


def _look(i: int) -> dict[str, Any]:
  """Colour and marker of the i-th series; the marker changes where the colours repeat."""
  n, m = len(style.PALETTE), len(style.MARKERS)
  return {"color": style.PALETTE[i % n], "marker": style.MARKERS[(i + i // n) % m], "ms": 4}
