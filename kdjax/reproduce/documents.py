"""Writes the results in the documents from `results.json`; nobody writes them by hand.

It writes all of `docs/results.md`, and the part of README.md between the two marks: the last column
of its table, and a table of verdicts. `docs/results.json` is the record of both.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from kdjax.core import files
from kdjax.report import formats
from kdjax.reproduce import record
from kdjax.reproduce.claims import SIZES, Claim
from kdjax.reproduce.papers import named
from kdjax.reproduce.record import Record
from kdjax.reproduce.verdict import FEWEST, LEVEL, NOT_RUN, VERDICTS
from kdjax.types import ConfigError

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
SETS = {  # as documents spell them
  "digits": "digits",
  "letter": "letters",
  "fashion_mnist": "Fashion-MNIST",
  "cifar10": "CIFAR-10",
  "cifar100": "CIFAR-100",
  "cifar100_coarse": "CIFAR-100, superclasses",
  "cinic10": "CINIC-10",
  "celeba": "CelebA",
  "tiny_imagenet": "Tiny ImageNet",
  "imagenet": "ImageNet",
}
OURS = "methods.methods"  # the table whose numbers the README shows
COMMAND = "kdjax reproduce --size=SIZE --data=DIR --workdir=runs/reproduce --documents=."


def write(checkout: Path, found: Record) -> None:
  """Writes docs/results.json, docs/results.md and the README's part of a checkout.

  Args:
    checkout: the repository's folder.
    found: the record of `record.write`; other results of the checkout are kept.
  """
  path = checkout / "docs" / record.FILE
  whole = as_declared(record.merged(path, found["claims"], found["tables"]))
  files.write_json(path, whole)
  files.replace(checkout / "docs" / "results.md", page(whole).encode())
  readme = checkout / "README.md"
  files.replace(readme, in_readme(readme.read_text(encoding="utf-8"), whole).encode())


def check(found: Sequence[Record]) -> None:
  """Refuses results that no commit reproduces, since the checkout had changes.

  Raises:
    ConfigError: naming the commit.
  """
  dirty = [word for word in record.made_with(found).split() if "-dirty" in word]
  if dirty:
    hint = "of runs with changes that are in no commit: make them again from a clean checkout"
    raise ConfigError("--documents", dirty[0].rstrip(",;"), hint)


def as_declared(found: Record) -> Record:
  """The records of today's declarations, in today's words; other records are left out."""
  known = {
    (f"{paper.name}.{one.name}", size, task): one
    for paper in named().values()
    for one in (*paper.claims, *paper.figures)
    for size, tasks in one.tasks.items()
    for task in tasks
  }
  tables = [r for r in found["tables"] if record.key(r) in known]
  claims = []
  for r in found["claims"]:
    claim = known.get(record.key(r))
    if isinstance(claim, Claim):
      why = claim.why(r["task"], r["verdict"])
      note = r["note"] if r["verdict"] == NOT_RUN else why
      claims.append(r | {"where": claim.where, "says": claim.says, "note": note})
  return {"claims": claims, "tables": tables}


def page(found: Record) -> str:
  """The text of docs/results.md."""
  claims = found["claims"]
  parts = ["# Results", _intro(), _counts(claims), _overview(claims)]
  for name, paper in named().items():
    own = [r for r in claims if r["name"].startswith(f"{name}.") and r["verdict"] != NOT_RUN]
    tables = [t for t in found["tables"] if t["name"].startswith(f"{name}.")]
    if own or tables:
      held_out = record.held_out(paper, [r["task"] for r in (*own, *tables)])
      parts += [
        f"## {paper.title}",
        record.made_with([*own, *tables]),
        held_out,
        *_claims(own),
        *map(_table, tables),
      ]
  parts += _not_run(claims)
  return "\n\n".join(filter(None, parts)) + "\n"


def _intro() -> str:
  return (
    f"Written by `{COMMAND}`, from `docs/results.json`. Test accuracy in percent, mean ± "
    "standard deviation over seeds, each the mean of its clients.\n\n"
    f"A claim is judged by differences paired by seed, at least {FEWEST} seeds, against an effect "
    f"stated beforehand: *confirmed* where the {100 * LEVEL:.0f} % interval (Student's t) lies "
    "wholly above the effect, *refuted* where it lies wholly below, else *undecided*; *not "
    "testable here* where a control fails, so that the task does not need what the claim is about. "
    "`kdjax reproduce --list` names all of them."
  )


def _counts(claims: Sequence[Record]) -> str:
  tally = ", ".join(f"{n} {word}" for word, n in record.counts(claims).items())
  return f"Claims: {tally}. A claim counts once for each data set."


def _overview(claims: Sequence[Record]) -> str:
  """The table of verdicts by claim and data set."""
  found: dict[str, dict[str, list[str]]] = {}  # claim: set: verdicts
  for one in judged(claims):
    found.setdefault(one["name"], {}).setdefault(data_set(one), []).append(one["verdict"])
  sets = sorted({name for row in found.values() for name in row}, key=list(SETS).index)
  rows = [[name, *(", ".join(row.get(s, ())) for s in sets)] for name, row in found.items()]
  return formats.markdown(["claim", *(SETS[s] for s in sets)], rows) if rows else ""


def tally(claims: Sequence[Record]) -> str:
  """The number of claims of each paper by verdict, and their data sets; '' if there are none."""
  rows = []
  for name in named():
    own = [r for r in judged(claims) if r["name"].startswith(f"{name}.")]
    if own:
      sets = sorted(set(map(data_set, own)), key=list(SETS).index)
      on = ", ".join(SETS[s] for s in sets)
      rows.append([name, *map(str, record.counts(own).values()), on])
  return formats.markdown(["claims of", *VERDICTS, "on"], rows) if rows else ""


def judged(claims: Sequence[Record]) -> list[Record]:
  """The claims that have a verdict."""
  return [r for r in claims if r["verdict"] != NOT_RUN]


def data_set(one: Record) -> str:
  """The data set of a claim's task, a key of `SETS`."""
  return named()[one["name"].partition(".")[0]].task(one["task"]).data or "digits"


def _claims(claims: Sequence[Record]) -> list[str]:
  """A paragraph and a table for each claim, over its data sets."""
  parts = []
  for name in dict.fromkeys(r["name"] for r in claims):
    own = [r for r in claims if r["name"] == name]
    rows = [
      [
        r["task"] if i == 0 else "",
        _kind(row),
        *_sides(row),
        str(row["seeds"]),
        record.difference(row),
        row["word"],
      ]
      for r in own
      for i, row in enumerate(r["rows"])
    ]
    header = ["data", "", "left", "right", "seeds", "left - right, interval, effect", ""]
    verdicts = ", ".join(f"{r['task']} **{r['verdict']}**" for r in own)
    parts.append(f"### {name}\n\n{own[0]['says']} ({own[0]['where']}) {verdicts}.")
    parts.append(formats.markdown(header, rows))
    notes = [(r["task"], words) for r in own for words in (r["note"], record.collapsed(r))]
    parts += [f"{task}: {words}" for task, words in notes if words]
  return parts


def _not_run(claims: Sequence[Record]) -> list[str]:
  """Every claim that is declared, with the tasks on which it has no verdict."""
  judged = {record.key(r) for r in claims if r["verdict"] != NOT_RUN}
  rows, count = [], 0
  for paper in named().values():
    for claim in paper.claims:
      name = f"{paper.name}.{claim.name}"
      left = [
        [task for task in claim.tasks.get(size, ()) if (name, size, task) not in judged]
        for size in SIZES
      ]
      if any(left):
        rows.append([name, *map(", ".join, left)])
        count += sum(map(len, left))
  if not rows:
    return []
  words = f"Declared, and waiting for data or a machine: {count} claims, one a data set, by size."
  return ["## Not run", words, formats.markdown(["claim", *SIZES], rows)]


def _kind(row: Record) -> str:
  return "claim" if row["kind"] == "claim" else f"only if {row['kind']}"


def _sides(row: Record) -> list[str]:
  return [record.side(row["left"]), record.side(row["right"])]


def _table(one: Record) -> str:
  return f"### {one['title']}, {one['task']}\n\n" + formats.markdown(*record.table_cells(one))


def in_readme(text: str, found: Record) -> str:
  """README.md with the results in the last column of its table, and the counts of verdicts.

  Args:
    text: README.md; a table whose rows begin with a method comes first between the marks.
    found: the record.

  Raises:
    ValueError: for a text without the marks.
  """
  before, begin, rest = text.partition(BEGIN)
  inside, end, after = rest.partition(END)
  if not begin or not end:
    raise ValueError(f"README.md needs the marks {BEGIN} and {END}")
  ours = best(found["tables"])
  methods = inside.strip().partition("\n\n")[0]
  lines = [_row(line, ours) for line in methods.splitlines()]
  middle = "\n".join(["", *lines, "", tally(found["claims"]), ""])
  return f"{before}{begin}{middle}{end}{after}"


def _row(line: str, ours: dict[str, str]) -> str:
  cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
  if cells[0] in ours:
    cells[-1] = ours[cells[0]]
  return "| " + " | ".join(cells) + " |"


def best(tables: Sequence[Record]) -> dict[str, str]:
  """{method: our shared accuracy on each data set}, from the table of all methods."""
  found: dict[str, list[str]] = {}
  for one in tables:
    if one["name"] == OURS:
      for method, (cell, *_) in one["rows"].items():
        if cell:
          found.setdefault(method, []).append(f"{SETS[one['task']]} {cell['mean']:.1f}")
  return {method: ", ".join(cells) for method, cells in found.items()}
