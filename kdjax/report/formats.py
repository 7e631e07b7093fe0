"""Writes a table of text cells for a terminal, as markdown, as LaTeX or as CSV."""

import csv as csv_module
import io
import re
import sys
import textwrap
from collections.abc import Sequence

Row = Sequence[str]
LATEX = str.maketrans(
  {c: f"\\{c}" for c in "&%$#_{}"}
  | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
  | {"±": r"$\pm$"}
)


BETWEEN = 3  # columns of text that a terminal's table takes beside each cell


def text(header: Row, rows: Sequence[Row], *, words: int, width: int, caption: str = "") -> str:
  """A table for a terminal, without colours, with a line between rows of different first cells.

  Numbers that do not fit beside each other follow in further tables of the same rows.

  Args:
    header: names of the columns.
    rows: cells; a row with an empty first cell belongs to the row above.
    words: the number of columns, from the left, that hold words; the others hold numbers.
    width: the most columns of text; longer words are folded, numbers never.
    caption: text below the table.

  Returns:
    The text; its last line ends with a newline.
  """
  from rich import box
  from rich.console import Console
  from rich.table import Table

  longest = lambda i: max(map(len, [*(row[i] for row in rows), *header[i].split()]), default=0)
  sizes = [longest(i) for i in range(len(header))]
  groups = _side_by_side(sizes, words, width)
  out = io.StringIO()
  console = Console(file=out, width=width, markup=False, color_system=None)
  for group in groups:
    below = caption if group is groups[-1] else ""
    table = Table(box=box.SIMPLE_HEAD, caption=below or None, caption_justify="left")
    for i in group:
      look: dict = {"justify": "left"} if i < words else {"justify": "right", "min_width": sizes[i]}
      table.add_column(header[i], overflow="fold", **look)
    for i, row in enumerate(rows):
      after = rows[i + 1][0] if i + 1 < len(rows) else ""
      table.add_row(*(row[j] for j in group), end_section=after not in ("", row[0]))
    console.print(table)
  return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _side_by_side(sizes: Sequence[int], words: int, width: int) -> list[list[int]]:
  """The columns of each table, by their sizes: those of words, then the numbers that fit."""
  first = min(sum(sizes[:words]) + BETWEEN * words, width // 2)  # longer words are folded
  groups: list[list[int]] = [[]]
  free = width - first
  for i in range(words, len(sizes)):
    if groups[-1] and sizes[i] + BETWEEN > free:
      groups.append([])
      free = width - first
    groups[-1].append(i)
    free -= sizes[i] + BETWEEN
  return [[*range(words), *group] for group in groups]


def named_line(name: str, words: str, width: int) -> str:
  """A line that begins with a name; further lines are indented below its words."""
  start = f"  {name:7}  "
  return textwrap.fill(
    words,
    width,
    initial_indent=start,
    subsequent_indent=" " * len(start),
    break_long_words=False,
    break_on_hyphens=False,
  )


def columns(elsewhere: int) -> int:
  """The columns of the terminal; `elsewhere` where the output goes to a file or a pipe."""
  from rich.console import Console

  return Console().width if sys.stdout.isatty() else elsewhere


def markdown(header: Row, rows: Sequence[Row]) -> str:
  """A markdown table; its last line has no newline."""
  line = lambda cells: "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
  return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])


def latex(header: Row, rows: Sequence[Row], *, words: int) -> str:
  """A `tabular` with the rules of booktabs; the first `words` columns are left-aligned."""
  minus = lambda cell: re.sub(r"^-(?=\d)", "$-$", cell.translate(LATEX))
  line = lambda cells: " & ".join(map(minus, cells)) + r" \\"
  return "\n".join(
    [
      rf"\begin{{tabular}}{{{'l' * words}{'r' * (len(header) - words)}}}",
      r"\toprule",
      line(header),
      r"\midrule",
      *map(line, rows),
      r"\bottomrule",
      r"\end{tabular}",
    ]
  )


def csv(rows: Sequence[dict]) -> str:
  """Rows that share their keys as CSV, every number in full; None is an empty cell."""
  out = io.StringIO()
  writer = csv_module.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return out.getvalue()
