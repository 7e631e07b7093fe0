"""report.html: a self-contained page about a run; `kdjax report WORKDIR` writes it again."""

import argparse
import json
import shlex
from collections.abc import Callable, Sequence
from datetime import timedelta
from html import escape
from operator import itemgetter
from pathlib import Path
from typing import Any

from kdjax.config import flat
from kdjax.core import files
from kdjax.report import captions, table, troubles
from kdjax.report.stylesheet import STYLE
from kdjax.report.table import RunRecord
from kdjax.training import run_folder
from kdjax.types import ConfigError

Group = Sequence[RunRecord]
WIDE = ("owners", "labels", "overlap", "confusion")  # figures as wide as the page


def write_report(workdir: str | Path, *, pdf: bool = True) -> Path:
  """Draws WORKDIR/plots/* (PNG, SVG, PDF) and writes WORKDIR/report.html with them.

  Args:
    workdir: a run folder; the report leaves out what is missing (evaluations, summary, baselines).
    pdf: whether to draw PDFs too, which take as long as everything else.

  Returns:
    The path of report.html.

  Raises:
    ConfigError: if the folder holds no run.
  """
  from kdjax.report import figures

  folder = Path(workdir)
  if not run_folder.is_begun(folder):
    holds_runs = any(folder.glob(f"*/{run_folder.CONFIG}"))
    hint = "it holds runs: name one, or see `kdjax compare`" if holds_runs else "no config.json"
    raise ConfigError("RUN", str(folder), f"must be a run's folder: {hint}")
  group = table.read_runs(folder)
  title = " on ".join(filter(None, [group[0].name, _dataset(group[0])]))
  parts = [
    f"<h1>{escape(title)}</h1>",
    f'<p class="lead">{_unbroken(escape(lead(group)))}</p>',
    _facts(group[0]),
    _results(group),
    _pictures(group, figures.draw(group, folder / "plots", pdf=pdf)),
    _record(group[0].record),
    _commands(workdir, group[0].record),
  ]
  page = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
    + "\n".join(filter(None, parts))
    + "\n</main></body></html>\n"
  )
  path = folder / "report.html"
  path.write_text(page, encoding="utf-8")
  return path


def lead(group: Group) -> str:
  """Sentences on a run and its results; `group` is that of `table.read_runs`."""
  run = group[0]
  sentences = _done(run) if run.summary else _begun(run)
  for key, meaning in (
    ("shared_accuracy", "shared accuracy (test data, every class weighs the same)"),
    ("private_accuracy", "private accuracy (each client's own label distribution)"),
  ):
    found = table.accuracies(run, key)
    if found:
      head = max(found, key=lambda name: found[name][0])
      sentences.append(f"Best {meaning}: {table.percent(*found[head])} %, head {head}.")
  beside = {run.name: table.accuracies(run, "shared_accuracy").values() for run in group[1:]}
  best = {name: max(found, key=itemgetter(0)) for name, found in beside.items() if found}
  words = [f"{name} {table.percent(*pair)} %" for name, pair in best.items()]
  if words:
    sentences.append(f"Best shared accuracy of the baselines: {', '.join(words)}.")
  if run.summary is not None:
    sentences.append(f"± is over {table.spread_over(group)}.")
  return " ".join(sentences)


def _unbroken(text: str) -> str:
  """Keeps '91.2 ± 0.4 %' on one line."""
  return text.replace(" ± ", "&nbsp;±&nbsp;").replace(" %", "&nbsp;%")


def _done(run: RunRecord) -> list[str]:
  """Sentences on a finished run's clients, method and length."""
  count, replicas = table.clients(run)
  edges = table.results(run)[0].get("edges", [])
  steps = (run.summary or {})["steps"]
  who = f"{count} clients, each with private data of its own," if count > 1 else "One client"
  how = ""
  if edges:
    is_complete = len(edges) == count * (count - 1)
    graph = "on a complete graph" if is_complete else f"on a graph of {len(edges)} links"
    how = f", learning from each other {graph}"
  sentences = [f"{who} trained with {run.name} for {steps:,} steps{how}."]
  return sentences + ([f"{replicas} seeds ran side by side."] if replicas > 1 else [])


def _begun(run: RunRecord) -> list[str]:
  """Sentences on an unfinished run's position and problems."""
  last = max((line["step"] for line in run.metrics), default=0)
  steps = run.record.get("config", {}).get("steps")
  goal = f" of {steps:,}" if steps else ""
  position = f"This run of {run.name} has not finished: it is at step {last:,}{goal}."
  return [position, *troubles.said(run)]


def _dataset(run: RunRecord) -> str:
  config = run.record.get("config", {})
  return str(run.summary["dataset"] if run.summary else config.get("source", ""))


def _facts(run: RunRecord) -> str:
  """Tiles with the size and the speed of a finished run."""
  if run.summary is None:
    return ""
  count, replicas = table.clients(run)
  profile = _profile(run)
  speed = "{:,.0f}".format
  duration = lambda seconds: str(timedelta(seconds=round(seconds)))
  facts: list[tuple[str, Any, Callable[[Any], str]]] = [
    ("clients", count, str),
    ("heads", len(run.summary["heads"]) - len(table.untaught(run)), str),
    ("steps", run.summary["steps"], "{:,}".format),
    ("seeds", replicas, str),
    ("images/s", run.summary.get("images_per_second"), speed),
    ("waiting for input", run.summary.get("input_bound"), "{:.1%}".format),
    ("compilation", run.summary.get("compile_seconds"), duration),
    ("of the device's peak", profile.get("share_of_peak"), "{:.1%}".format),
    ("phase of the profile", profile.get("phase"), escape),
    ("device of the profile", profile.get("device"), escape),
    ("wall time", run.summary.get("wall_seconds"), duration),
  ]
  tiles = (
    f"<div><dt>{name}</dt><dd>{text(value)}</dd></div>"
    for name, value, text in facts
    if value is not None
  )
  return f'<dl class="facts">{"".join(tiles)}</dl>'


def _profile(run):
  """The record of `--profile`; empty if the run was not profiled."""
  path = run.folder / "profile.json"
  return files.read_json(path) if path.is_file() else {}


def _results(group: Group) -> str:
  """The closing table; on a phone, one card per head."""
  rows = table.rows(group)
  if not rows:
    return ""
  head = "".join(f"<th>{escape(name)}</th>" for name in table.COLUMNS)
  body, own = [], group[0].summary is not None
  for i, row in enumerate(rows):
    own = own and (i == 0 or row.run == "")
    kind = ("first " if row.run else "") + ("own" if own else "")
    cells = (
      f'<td data-name="{name}">{escape(text)}</td>'
      for name, text in zip(table.COLUMNS, row, strict=True)
    )
    body.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
  return (
    f'<h2>Results</h2>\n<div class="scroll"><table class="results"><thead><tr>{head}</tr></thead>'
    f'<tbody>{"".join(body)}</tbody></table></div>\n<p class="note">'
    f"{escape(table.caption(group))}</p>{_troubles(group)}"
  )


def _troubles(group: Group) -> str:
  """The problems that did not stop a run, one paragraph each."""
  found = [text for run in group for text in troubles.said(run)]
  return "".join(f'\n<p class="trouble">{escape(text)}</p>' for text in found)


def _pictures(group: Group, paths: dict[str, Path]) -> str:
  """The figures, included in the page."""
  from kdjax.report import style

  remarks, cards = captions.remarks(group), []
  for name, path in paths.items():
    title, text = captions.FIGURES[name]
    text = " ".join(filter(None, [text, remarks[name].strip()]))
    kind = ' class="wide"' if name in WIDE else ""
    cards.append(
      f'<figure{kind}><h3>{title}</h3><div class="picture" aria-label="{title}">'
      f"{style.inline(path)}</div><figcaption>{escape(text)}</figcaption></figure>"
    )
  return f'<h2>Figures</h2>\n<div class="figures">{"".join(cards)}</div>' if cards else ""


def _record(record: dict[str, Any]) -> str:
  """config.json: the resolved config, then versions, device and the rest."""
  about = {key: value for key, value in record.items() if key != "config"}
  parts = [("Config", record.get("config", {})), ("Versions and device", about)]
  boxes = []
  for title, tree in parts:
    values = flat(tree, keep_empty=True)
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
    cells = (f"<tr><td>{escape(k)}</td><td>{escape(text)}</td></tr>" for k, text in texts.items())
    pairs = f'<table class="pairs">{"".join(cells)}</table>'
    if tree:
      boxes.append(f"<details><summary>{title}</summary>{pairs}</details>")
  return "<h2>How it was made</h2>\n" + "\n".join(boxes) if boxes else ""


def _commands(workdir: str | Path, record: dict[str, Any]) -> str:
  place = shlex.quote(str(workdir))
  resume = ("# resume it", record["command"]) if "command" in record else ()
  lines = (
    *resume,
    "# make this report again",
    f"kdjax report {place}",
    "# look at its curves",
    f"tensorboard --logdir {shlex.quote(str(Path(workdir) / 'tensorboard'))}",
  )
  return f"<h2>Commands</h2>\n<pre>{escape(chr(10).join(lines))}</pre>"


def report_cli(argv: Sequence[str]) -> int:
  """`kdjax report RUN`; returns the exit code.

  Args:
    argv: what follows the word `report`.
  """
  parser = argparse.ArgumentParser(prog="kdjax report", description="Makes a run's page again.")
  parser.add_argument("run", metavar="RUN", help="the run's folder")
  print(write_report(parser.parse_args(argv).run))
  return 0
