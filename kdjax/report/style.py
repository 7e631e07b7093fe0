"""What all figures of a report share: colours, axes, legends."""

import numpy as np

from kdjax.report import table

INK, QUIET = "#333333", "#8a8a8a"
PALETTE = ("#2f5d9b", "#d9772b", "#3a8f5c", "#b5404d", "#7b5ea7", "#7a5a45", "#c56aa6", "#2e97a3")
DASHES = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))
STYLE = {
  "axes.edgecolor": QUIET,
  "axes.labelcolor": INK,
  "axes.spines.right": False,
  "axes.spines.top": False,
  "axes.titlesize": "medium",
  "font.size": 9.5,
  "grid.color": "#e4e4e4",
  "grid.linewidth": 0.7,
  "legend.frameon": False,
  "text.color": INK,
  "xtick.color": INK,
  "ytick.color": INK,
}
NARROW, WIDE, HEIGHT = 6.0, 12.0, 3.4  # inches: half a page's width, a whole one's
PIXELS = 1800  # of either width


def figure(width, height, layout="constrained"):
  """An empty figure, made without pyplot and its global list of figures (inches)."""
  from matplotlib.figure import Figure

  return Figure(figsize=(width, height), layout=layout, facecolor="white")


def colours(run):
  """A colour for every head, the same in every figure."""
  return {head: PALETTE[i % len(PALETTE)] for i, head in enumerate(table.heads(run))}


def results(run):
  """The summary's results of each replica; none where the run has not finished."""
  return table.results(run)


def drawn(axes):
  """All finite heights of the lines drawn so far."""
  heights = np.concatenate([line.get_ydata() for line in axes.lines])
  return heights[np.isfinite(heights)]


def over_steps(figure, axes):
  """What all curves over the run share: the x axis, the grid, the legend."""
  axes.set_xlabel("training step")
  axes.locator_params(axis="x", nbins=6, integer=True)
  axes.xaxis.set_major_formatter("{x:,.0f}")
  axes.grid(axis="y")
  legend(figure, axes)


def legend(figure, axes):
  """One legend below the figure, in as few even lines as hold it."""
  handles, names = axes.get_legend_handles_labels()
  fits = int(13 * figure.get_figwidth() / (max(map(len, names)) + 5))  # entries of the longest
  lines = -(-len(names) // min(max(fits, 1), 5))
  columns = -(-len(names) // lines)
  figure.legend(handles, names, loc="outside lower center", ncols=columns)


def heat(axes):
  """A heat map's axes: whole numbers, no frame."""
  axes.locator_params(nbins=10, integer=True)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)


def numbers(axes, values, *, dark, size):
  """Writes whole numbers into the cells of a heat map, in white where the cell is dark."""
  for (row, column), value in np.ndenumerate(values):
    colour = "white" if dark[row, column] else INK
    axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=size)


def bars(names, values, colours, text):
  """A figure of one horizontal bar a name, its value beside it as `text` writes it."""
  picture = figure(NARROW, 0.5 + 0.42 * len(names))
  axes = picture.subplots()
  drawn_bars = axes.barh(range(len(names)), values, 0.66, color=colours)
  axes.bar_label(drawn_bars, [text(value) for value in values], padding=4)
  axes.set_yticks(range(len(names)), names)
  axes.set(xlim=(0, 1.3 * max(values)), ylim=(len(names) - 0.4, -0.6))
  axes.spines.bottom.set_visible(False)
  axes.tick_params(length=0, labelbottom=False)
  return picture
