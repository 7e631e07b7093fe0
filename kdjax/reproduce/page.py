"""A self-contained page of the results: verdicts, numbers beside the paper's, figures."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from kdjax.report import style
from kdjax.report.stylesheet import STYLE
from kdjax.reproduce import figures, record, runs
from kdjax.reproduce.claims import Matrices
from kdjax.reproduce.record import Record
from kdjax.reproduce.runs import Asked
from kdjax.reproduce.verdict import CONFIRMED, NOT_TESTABLE, REFUTED
from kdjax.reproduce.work import Chosen

FILE = "reproduce.html"
MORE = """
.claim { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 16px; margin: 0 0 12px; break-inside: avoid; }
.claim h3 { font-size: 1rem; margin: 0 0 4px; }
.claim p { margin: 0 0 6px; }
.word { border-radius: 4px; padding: 1px 8px; font-size: .85rem; font-weight: 600;
  white-space: nowrap; border: 1px solid; }
.yes { color: #1a7f37; } .no { color: #b3361b; } .open { color: var(--quiet); }
@media screen and (prefers-color-scheme: dark) { .yes { color: #5fcf80; } .no { color: #ff8f73; } }
.rows td, .rows th { text-align: left; white-space: normal; vertical-align: top;
  padding: 4px 12px 4px 0; font-size: .9rem; border-top: 1px solid var(--line); }
.verdicts td, .verdicts th { text-align: left; white-space: normal; }
.figures:has(> :only-child) { max-width: 640px; } /* one picture would be as wide as the page */
.verdicts a { color: var(--strong); }
.verdicts .word { display: inline-block; } /* no line below it, as below a link's text */
.overview { background: var(--card); border: 1px solid var(--line); margin-bottom: 10px; }
.overview td { border-top: 1px solid var(--line); }
.on { display: inline-block; white-space: nowrap; margin-right: 16px; }
@media (max-width: 560px) {
  .verdicts td, .verdicts th { padding: 5px 8px; font-size: .88rem; }
  .overview tr, .overview td { display: block; }
  .overview td + td { border: 0; padding-top: 0; }
  .rows thead { display: none; }
  .rows tr { display: block; border-top: 1px solid var(--line); padding: 4px 0; }
  .rows td { display: block; border: 0; padding: 1px 0; }
  .rows td:nth-child(4)::after { content: " seeds"; }
}
"""


def write(
  asked: Asked, chosen: Sequence[Chosen], found: Sequence[Record], tables: Sequence[Record]
) -> Path:
  """Writes WORKDIR/reproduce.html of the records and figures; returns its path."""
  title = "Claims and figures, " + ", ".join(part.paper.name for part in chosen)
  parts = [f"<h1>{escape(title)}</h1>", f'<p class="lead">{escape(lead(asked, found, tables))}</p>']
  parts += [_overview(found)]
  for part in chosen:
    own = lambda records, name=part.paper.name: [
      r for r in records if r["name"].partition(".")[0] == name
    ]
    ran = [r["task"] for r in (*own(found), *own(tables)) if r["rows"]]
    held_out = record.held_out(part.paper, ran)
    parts += [f"<h2>{escape(part.paper.title)}</h2>", _note(held_out), *map(_claim, own(found))]
    parts += [_table(t) for t in own(tables) if not t.get("drawn")]
    parts.append(_figures(asked, part))
  html = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{escape(title)}</title><style>{STYLE}{MORE}</style></head>\n<body><main>\n"
    + "\n".join(filter(None, parts))
    + "\n</main></body></html>\n"
  )
  path = asked.workdir / FILE
  path.write_text(html, encoding="utf-8")
  return path


def lead(asked: Asked, found: Sequence[Record], tables: Sequence[Record]) -> str:
  """Sentences on how to read the page, and the counts of verdicts."""
  tally = [f"{n} {word}" for word, n in record.counts(found).items() if n]
  return (
    f"{asked.seeds} seeds, size {asked.size}: {', '.join(tally) or 'nothing judged yet'}; a claim "
    "counts once for each data set. A claim is confirmed where the 95 % interval of the "
    "differences, paired by seed, lies wholly above an effect stated beforehand, refuted where "
    "it lies wholly below, else undecided; not testable where a control says that the task does "
    f"not need what the claim is about. Test accuracy in percent, mean ± standard deviation. "
    + record.made_with([*found, *tables])
  )


def _overview(found: Sequence[Record]) -> str:
  """A table of claims, each with its verdicts by data set."""
  lines = []
  for name in dict.fromkeys(r["name"] for r in found):
    own = [r for r in found if r["name"] == name]
    shown = escape(name).replace(".", ".<wbr>").replace("_", "_<wbr>")  # where a name may break
    on = lambda r: f"{escape(r['task'])} {_link(_id(r), _word(r['verdict']))}"
    verdicts = "".join(f'<span class="on">{on(r)}</span> ' for r in own)
    lines.append(f"<tr><td>{_link(_id(own[0]), shown)}</td><td>{verdicts}</td></tr>")
  return f'<table class="verdicts overview">{"".join(lines)}</table>' if lines else ""


def _id(one: Record) -> str:
  """The id of a claim on a data set: 'mhd.heads.digits'."""
  return f"{one['name']}.{one['task']}"


def _link(place: str, html: str) -> str:
  return f'<a href="#{escape(place)}">{html}</a>'


def _note(text: str) -> str:
  return f'<p class="note">{escape(text)}</p>' if text else ""


def _word(word: str) -> str:
  kinds = {CONFIRMED: "yes", REFUTED: "no", NOT_TESTABLE: "open"}
  return f'<span class="word {kinds.get(word, "open")}">{escape(word)}</span>'


def _claim(one: Record) -> str:
  """A claim on a data set: its sentence, the numbers and the reason of the verdict."""
  head = f"{escape(one['name'])} on {escape(one['task'])} {_word(one['verdict'])}"
  lines = []
  for row in one["rows"]:
    kind = "claim" if row["kind"] == "claim" else f"only if {row['kind']}"
    sides = [_unbroken(record.side(row[name])) for name in ("left", "right")]
    difference = record.difference(row).replace(", ", ",\N{NO-BREAK SPACE}")
    cells = [kind, *sides, str(row["seeds"]), difference, row["word"]]
    lines.append(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
  names = ("", "left", "right", "seeds", "difference, points", "")
  header = "".join(f"<th>{name}</th>" for name in names)
  body = f"<thead><tr>{header}</tr></thead><tbody>{''.join(lines)}</tbody>"
  table = f'<table class="rows">{body}</table>' if lines else ""
  notes = _note(one["note"]) + _note(record.collapsed(one))
  says = f"{escape(one['says'])} <span class='note'>{escape(one['where'])}</span>"
  return (
    f'<div class="claim" id="{escape(_id(one))}"><h3>{head}</h3><p>{says}</p>{table}{notes}</div>'
  )


def _unbroken(text: str) -> str:
  """Keeps '91.2 ± 0.4' on one line."""
  return text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def _table(one: Record) -> str:
  """A table on a data set."""
  header, rows = record.table_cells(one)
  head = "".join(f"<th>{escape(name)}</th>" for name in header)
  lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
  body = "".join(f"<tr>{line}</tr>" for line in lines)
  table = f'<table class="verdicts"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
  return f'<h3>{escape(one["title"])}, {escape(one["task"])}</h3><div class="scroll">{table}</div>'


def _figures(asked: Asked, one: Chosen) -> str:
  """The paper's figures whose runs have finished."""
  cards = []
  for figure in one.figures:
    for task in runs.tasks(asked, one.paper, figure):
      place = asked.workdir / "figures" / f"{one.paper.name}_{figure.name}_{task.name}"
      drawn = figures.draw(asked, one.paper, figure, task, place)
      if drawn:
        title = escape(f"{figure.title}, {task.name}")
        kind = ' class="wide"' if isinstance(figure, Matrices) else ""
        cards.append(
          f'<figure{kind}><h3>{title}</h3><div class="picture" aria-label="{title}">'
          f"{style.inline(drawn)}</div></figure>"
        )
  return f'<div class="figures">{"".join(cards)}</div>' if cards else ""
