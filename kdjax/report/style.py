"""What all figures of a report share: colours, themes, axes, legends."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.report import table
from kdjax.report.table import RunRecord

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

DARK_TEXT = "#333333"  # on the light cells of a heat map, whatever the theme
PALETTE = ("#2f5d9b", "#d9772b", "#3a8f5c", "#b5404d", "#7b5ea7", "#7a5a45", "#c56aa6", "#2e97a3")
# Baselines: told apart by people who see fewer colours (Okabe and Ito, Tol), by marker and by dash.
OTHERS: tuple[str, ...] = ("#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
OTHERS += ("#8c6d31", "#aa4499", "#44aa99", "#999933", "#a0522d")
MARKERS = "osD^vPX*<>"
DASHES = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 1)))
LIGHT = {"ink": "#333333", "quiet": "#8a8a8a", "paper": "#ffffff", "grid": "#e4e4e4"}
DARK = {"ink": "#d9dde2", "quiet": "#8d97a3", "paper": "#1c2128", "grid": "#3a414a"}


def theme(colours: dict[str, str]) -> Any:
  """Matplotlib's settings for one of `LIGHT` and `DARK`."""
  ink, quiet, paper = colours["ink"], colours["quiet"], colours["paper"]
  return {
    "axes.edgecolor": quiet,
    "axes.facecolor": paper,
    "axes.labelcolor": ink,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.facecolor": paper,
    "font.size": 9.5,
    "grid.color": colours["grid"],
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
    "savefig.facecolor": paper,
    "svg.fonttype": "none",
    "svg.hashsalt": "kdjax",  # the same identifiers, thus the same bytes, every time
    "text.color": ink,
    "xtick.color": ink,
    "ytick.color": ink,
  }


def ink() -> str:
  """The theme's colour of text and of what matters."""
  from matplotlib import rcParams

  return rcParams["text.color"]


def quiet() -> str:
  """The theme's colour of what matters less."""
  from matplotlib import rcParams

  return rcParams["axes.edgecolor"]


def paper() -> str:
  """The theme's background."""
  from matplotlib import rcParams

  return rcParams["figure.facecolor"]


def shades() -> tuple[float, float]:
  """Where the faintest and the plainest of one colour's shades lie on a map from light to dark."""
  return (0.75, 0.3) if paper() == DARK["paper"] else (0.45, 0.9)


NARROW, WIDE, HEIGHT = 6.0, 12.0, 3.4  # inches: half a page's width, a whole one's
PIXELS = 1800  # of either width


def figure(width: float, height: float, layout: Any = "constrained") -> "Figure":
  """An empty figure, made without pyplot and its global list of figures (inches)."""
  from matplotlib.figure import Figure

  return Figure(figsize=(width, height), layout=layout)


def colours(run: RunRecord) -> dict[str, str]:
  """A colour for every head, the same in every figure."""
  return {head: PALETTE[i % len(PALETTE)] for i, head in enumerate(table.heads(run))}


def results(run: RunRecord) -> list[dict[str, Any]]:
  """The summary's results of each replica; none where the run has not finished."""
  return table.results(run)


def drawn(axes: "Axes") -> np.ndarray:
  """All finite heights of the lines drawn so far."""
  heights = np.concatenate([line.get_ydata() for line in axes.lines])
  return heights[np.isfinite(heights)]


def over_steps(figure: "Figure", axes: "Axes") -> None:
  """What all curves over the run share: the x axis, the grid, the legend."""
  axes.set_xlabel("training step")
  axes.locator_params(axis="x", nbins=6, integer=True)
  axes.xaxis.set_major_formatter("{x:,.0f}")
  axes.grid(axis="y")
  legend(figure, axes)


def legend(figure: "Figure", axes: "Axes") -> None:
  """One legend below the figure, in as few even lines as hold it."""
  handles, names = axes.get_legend_handles_labels()
  fits = int(13 * figure.get_figwidth() / (max(map(len, names)) + 5))  # entries of the longest
  lines = -(-len(names) // min(max(fits, 1), 5))
  columns = -(-len(names) // lines)
  figure.legend(handles, names, loc="outside lower center", ncols=columns)


def heat(axes: "Axes") -> None:
  """A heat map's axes: whole numbers, no frame."""
  axes.locator_params(nbins=10, integer=True)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)


def numbers(axes: "Axes", values: np.ndarray, *, dark: np.ndarray, size: float) -> None:
  """Writes whole numbers into the cells of a heat map, in white where the cell is dark."""
  for (row, column), value in np.ndenumerate(values):
    colour = "white" if dark[row, column] else DARK_TEXT
    axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=size)


def bars(
  names: list[str], values: list[float], colours: list[str], text: Callable[[float], str]
) -> "Figure":
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
