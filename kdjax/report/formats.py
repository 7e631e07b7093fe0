"""One table of text cells in the forms that people paste: terminal, markdown, LaTeX, CSV."""

import csv as csv_module
import io
import re
from collections.abc import Sequence

Row = Sequence[str]
LATEX = str.maketrans(
  {c: f"\\{c}" for c in "&%$#_{}"}
  | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
  | {"±": r"$\pm$"}
)


def text(header: Row, rows: Sequence[Row], *, words: int, width: int, caption: str = "") -> str:
  """A table for a terminal, without colours; a line between two groups of one first cell.

  Args:
    header: names of the columns.
    rows: cells; a first cell that is empty belongs to the one above.
    words: how many columns, from the left, hold words; numbers stand to the right.
    width: columns of text at most; longer cells are folded.
    caption: what stands below.

  Returns:
    str, its last line ended.
  """
  from rich import box
  from rich.console import Console
  from rich.table import Table

  table = Table(box=box.SIMPLE_HEAD, caption=caption or None, caption_justify="left")
  for i, name in enumerate(header):
    table.add_column(name, justify="left" if i < words else "right", overflow="fold")
  for i, row in enumerate(rows):
    after = rows[i + 1][0] if i + 1 < len(rows) else ""
    table.add_row(*row, end_section=after not in ("", row[0]))
  out = io.StringIO()
  Console(file=out, width=width, markup=False, color_system=None).print(table)
  return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def markdown(header: Row, rows: Sequence[Row]) -> str:
  """A markdown table; its last line is not ended."""
  line = lambda cells: "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
  return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])


def latex(header: Row, rows: Sequence[Row], *, words: int) -> str:
  """A `tabular` with the rules of booktabs; the first `words` columns stand to the left."""
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
