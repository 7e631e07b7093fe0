"""The common style of a report's figures: colours for light and dark, axes, legends, files."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdjax.report import table
from kdjax.report.table import RunRecord

INK, QUIET, FAINT, PAPER = "#333333", "#8a8a8a", "#e4e4e4", "#ffffff"
# Ten hues from a search for the largest least difference, for normal vision and three kinds of
# colour blindness, on white and on the dark card. Markers are the second cue.
PALETTE = (
  "#2f62b5", "#c99e19", "#e1708b", "#2e6201", "#35b0d8",
  "#672b71", "#897f2c", "#91556d", "#6481f1", "#3e3624",
)  # fmt: skip
DARK_PALETTE = (
  "#6f9ff5", "#a6a116", "#fc9f96", "#677904", "#6ed2f0",
  "#925785", "#e1ebc6", "#ce76a7", "#476ad3", "#fccc25",
)  # fmt: skip
DARK = {INK: "#e6e8eb", QUIET: "#8f98a3", FAINT: "#373e47", PAPER: "#1c2128"}
DARK |= dict(zip(PALETTE, DARK_PALETTE, strict=True))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
STYLE: Any = {
  "axes.edgecolor": QUIET,
  "axes.labelcolor": INK,
  "axes.spines.right": False,
  "axes.spines.top": False,
  "axes.titlesize": "medium",
  "font.size": 9.5,
  "grid.color": FAINT,
  "grid.linewidth": 0.7,
  "legend.frameon": False,
  "pdf.fonttype": 42,  # letters stay letters
  "svg.hashsalt": "kdjax",  # equal figures become equal files
  "text.color": INK,
  "xtick.color": INK,
  "ytick.color": INK,
}
NARROW, WIDE, HEIGHT = 5.4, 10.8, 3.3  # inches: half a page's width, a whole one's
PIXELS = 1600  # of either width


def figure(width: float, height: float, layout: Any = "constrained") -> Figure:
  """An empty figure, made without pyplot and its global list of figures (inches)."""
  return Figure(figsize=(width, height), layout=layout, facecolor=PAPER)


def save(picture: Figure, path: Path, *, pdf: bool = True) -> None:
  """Writes a figure as PNG, SVG and, on request, PDF; `path` is the name without an ending.

  A browser shows the SVG in dark colours if its reader prefers them, other programs in light ones.
  """
  if engine := picture.get_layout_engine():
    engine.execute(picture)
    picture.set_layout_engine("none")  # laid out once, not again for every file
  picture.savefig(path.with_suffix(".png"), dpi=PIXELS / picture.get_figwidth())
  path.with_suffix(".pdf").unlink(missing_ok=True)  # the file of an older report
  if pdf:
    picture.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
  drawing = path.with_suffix(".svg")
  picture.savefig(drawing, metadata={"Date": None})
  plain = drawing.read_text(encoding="utf-8")
  drawing.write_text(plain.replace("</style>", dark() + "</style>", 1), encoding="utf-8")


def dark() -> str:
  """The CSS rules for a figure's dark colours; heat maps are inverted and keep their hue."""
  rules = [
    f'[style*="{what}: {light}"]{{{what}:{other}!important}}'
    for light, other in DARK.items()
    for what in ("fill", "stroke")
  ]
  heat = "svg image{filter:invert(1) hue-rotate(180deg)}"
  return f"@media screen and (prefers-color-scheme:dark){{{''.join(rules)}{heat}}}"


def inline(path: Path) -> str:
  """An SVG file as an element of a page, with names that are unique on the page."""
  text = path.read_text(encoding="utf-8")
  text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
  text = re.sub(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', r'<svg role="img" \1>', text, count=1)
  return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{path.stem}-", text)


def colours(run: RunRecord) -> dict[str, str]:
  """A colour for every head, the same in every figure."""
  return {head: PALETTE[i % len(PALETTE)] for i, head in enumerate(table.heads(run))}


def drawn(axes: Axes) -> np.ndarray:
  """All finite heights of the lines drawn so far."""
  heights = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
  return heights[np.isfinite(heights)]


def over_steps(picture: Figure, axes: Axes) -> None:
  """Sets the x axis, grid and legend of curves over the steps of one run."""
  axes.set_xlabel("training step")
  axes.locator_params(axis="x", nbins=6, integer=True)
  axes.xaxis.set_major_formatter("{x:,.0f}")
  axes.grid(axis="y")
  legend(picture, axes)


def accuracy_axis(axes: Axes, label: str) -> None:
  """Sets a y axis in percent from 0 to just above the curves, at most 100."""
  top = axes.dataLim.y1 if len(drawn(axes)) else 1.0  # bands included
  axes.set_ylim(0, np.clip(1.1 * top, 0.05, 1.02))
  axes.set_ylabel(label)
  axes.yaxis.set_major_formatter("{x:.0%}")


def legend(picture: Figure, axes: Axes) -> None:
  """Adds a legend below the figure, in as few even lines as possible."""
  handles, names = axes.get_legend_handles_labels()
  fits = int(13 * picture.get_figwidth() / (max(map(len, names)) + 5))  # entries of the longest
  lines = -(-len(names) // min(max(fits, 1), 5))
  columns = -(-len(names) // lines)
  picture.legend(handles, names, loc="outside lower center", ncols=columns)


def heat(axes: Axes) -> None:
  """Sets a heat map's axes: whole numbers, no frame."""
  axes.locator_params(nbins=10, integer=True)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)


def numbers(axes: Axes, values: np.ndarray, *, dark: np.ndarray, size: float) -> None:
  """Writes whole numbers into the cells of a heat map, in white where the cell is dark."""
  for (row, column), value in np.ndenumerate(values):
    colour = PAPER if dark[row, column] else INK
    axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=size)


def bars(
  names: Sequence[str],
  values: Sequence[float],
  colours: Sequence[str],
  text: Callable[[float], str],
) -> Figure:
  """A figure with one horizontal bar per name, and its value beside it as `text` writes it."""
  picture = figure(NARROW, 0.5 + 0.36 * len(names))
  axes = picture.subplots()
  drawn_bars = axes.barh(range(len(names)), values, 0.66, color=colours)
  axes.bar_label(drawn_bars, [text(value) for value in values], padding=4)
  axes.set_yticks(range(len(names)), names)
  axes.set(xlim=(0, 1.3 * max(values)), ylim=(len(names) - 0.4, -0.6))
  axes.spines.bottom.set_visible(False)
  axes.tick_params(length=0, labelbottom=False)
  return picture
