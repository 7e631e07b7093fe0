"""report.html: one self-contained page about a run; `kdjax report RUN` makes it again."""

import base64
import json
import shlex
from datetime import timedelta
from html import escape
from operator import itemgetter
from pathlib import Path

from kdjax.report import figures, table
from kdjax.types import ConfigError

STYLE = """
:root { color-scheme: light dark; --ink: #24292f; --quiet: #656d76; --line: #d8dee4; --card: #fff;
  --back: #f4f6f8; --strong: #2f5d9b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --quiet: #9aa4af; --line: #373e47;
  --card: #1c2128; --back: #12161b; --strong: #8fb6e8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.55 system-ui, sans-serif;
  overflow-wrap: break-word; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 56px; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .4em; }
h2 { font-size: 1.2rem; margin: 2em 0 .7em; }
p { margin: 0 0 .7em; }
.lead { max-width: 46em; font-size: 1.06rem; }
.note, figcaption { color: var(--quiet); font-size: .88rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(104px, 1fr)); gap: 8px;
  margin: 20px 0 0; }
.facts div, figure, .scroll, details { background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }
.facts div { padding: 8px 12px; }
.facts dt { color: var(--quiet); font-size: .8rem; }
.facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 16px; align-items: start; grid-auto-flow: dense; }
figure { margin: 0; padding: 12px; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figure h3 { font-size: 1rem; margin: 0 0 8px; }
.picture { overflow-x: auto; border-radius: 4px; }
img { display: block; width: 100%; max-width: 100%; height: auto; }
figcaption { margin-top: 8px; }
.scroll { overflow-x: auto; margin-bottom: 10px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; text-align: right; white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; font-size: .85rem; }
.results th:nth-child(-n+2), .results td:nth-child(-n+2) { text-align: left; }
.results td:first-child { font-weight: 600; }
tr.first td { border-top: 1px solid var(--line); }
tr.own td { color: var(--strong); }
details { padding: 10px 14px; margin-bottom: 10px; }
summary { cursor: pointer; font-weight: 600; }
.pairs td { text-align: left; white-space: normal; vertical-align: top; padding: 3px 8px 3px 0;
  border-top: 1px solid var(--line); font: .84rem/1.5 ui-monospace, monospace; }
.pairs td { overflow-wrap: anywhere; }
.pairs td:first-child { color: var(--quiet); width: 42%; }
.pairs { margin-top: 8px; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px;
  overflow-x: auto; font: .84rem/1.6 ui-monospace, monospace; margin: 0 0 10px; }
@media (max-width: 560px) { .wide img { width: 760px; max-width: none; }
  h1 { font-size: 1.45rem; } .results thead { display: none; }
  .results tr { display: grid; grid-template-columns: 1fr 1fr; padding: 6px 12px; }
  .results tr.first { border-top: 1px solid var(--line); } tr.first td { border-top: 0; }
  .results td { display: flex; justify-content: space-between; gap: 8px; padding: 1px 0; }
  .results td:empty { display: none; }
  .results td:nth-child(-n+2)::before { content: none; }
  .results td::before { content: attr(data-name); color: var(--quiet); font-size: .8rem; }
  .results td:nth-child(n+3) { grid-column: 1 / -1; } }
@media print { :root { --ink: #24292f; --quiet: #656d76; --line: #d8dee4; --card: #fff;
  --back: #fff; --strong: #2f5d9b; } body { font-size: 11pt; }
  figure, .facts div, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; } .figures { display: block; } figure { margin-bottom: 12px; } }
"""

FIGURES = {  # title, caption
  "shared": (
    "Shared accuracy",
    "On test data where every class weighs the same: what a client knows of everybody's task. "
    "Mean over clients; band: ± one standard deviation.",
  ),
  "private": (
    "Private accuracy",
    "On test data weighted by the client's own label distribution: how well it does its own task. "
    "Mean over clients; band: ± one standard deviation.",
  ),
  "losses": ("Losses", "As logged during training, mean over the clients that took part."),
  "overlap": (
    "Who gets what right",
    "Shares of examples that the returned edge model (teacher) and the core (student) classify "
    "right: both, the core alone, the edge alone. Line: consensus, both over either. Mean over "
    "seeds.",
  ),
  "confusion": (
    "Confusion",
    "Row: true class; column: predicted class; percent of the true class's test examples, a panel "
    "a client.",
  ),
  "communication": (
    "Communication",
    "Bytes over the whole run: counted, and by the paper's formulas.",
  ),
  "flops": ("Arithmetic", "FLOPs, two a multiply-add; a training step counts as three passes."),
  "distances": (
    "Accuracy by graph distance",
    "On the label distribution of a client so many links away, its own at distance 0. What a "
    "client learns from beyond distance 1 comes through the clients in between.",
  ),
  "owners": (
    "Who knows whose labels",
    "Row: client; column: whose label distribution it is tested on; accuracy in percent, one panel "
    "a head. The diagonal is private accuracy.",
  ),
  "graph": ("Graph", "An arrow runs from a student to a teacher it learns from."),
  "labels": ("Private data", "Private training examples of each class at each client."),
  "traffic": ("Bytes sent", "Over the whole run, every receiver counted."),
}


def write_report(workdir: str | Path) -> Path:
  """Draws WORKDIR/plots/ and writes WORKDIR/report.html, which embeds them.

  Args:
    workdir: a run folder; what it lacks (evaluations, summary, baselines) the report leaves out.

  Returns:
    The path of report.html.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  folder = Path(workdir)
  if not folder.is_dir():
    raise FileNotFoundError(f"{folder} is no run folder")
  group = table.read_runs(folder)
  title = " on ".join(filter(None, [group[0].name, _dataset(group[0])]))
  parts = [
    f"<h1>{escape(title)}</h1>",
    f'<p class="lead">{_unbroken(escape(lead(group)))}</p>',
    _facts(group[0]),
    _results(group),
    _pictures(group, figures.draw(group, folder / "plots")),
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


def lead(group: list[table.RunRecord]) -> str:
  """What was run and what came out of it, as plain sentences; `group` from `table.read_runs`."""
  run = group[0]
  said = _done(run) if run.summary else _begun(run)
  for key, meaning in (
    ("shared_accuracy", "shared accuracy (test data, every class alike)"),
    ("private_accuracy", "private accuracy (each client's own label distribution)"),
  ):
    found = table.accuracies(run, key)
    if found:
      head = max(found, key=lambda name: found[name][0])
      said.append(f"Best {meaning}: {table.percent(*found[head])} %, head {head}.")
  beside = {run.name: table.accuracies(run, "shared_accuracy").values() for run in group[1:]}
  best = {name: max(found, key=itemgetter(0)) for name, found in beside.items() if found}
  words = [f"{name} {table.percent(*pair)} %" for name, pair in best.items()]
  if words:
    said.append(f"Best shared accuracy of the baselines: {', '.join(words)}.")
  return " ".join(said)


def _unbroken(text):
  """Keeps '91.2 ± 0.4 %' on one line."""
  return text.replace(" ± ", "&nbsp;±&nbsp;").replace(" %", "&nbsp;%")


def _done(run):
  """How a finished run was made: sentences."""
  count, replicas = table.clients(run)
  edges = table.results(run)[0].get("edges", [])
  who = f"{count} clients, each with private data of its own," if count > 1 else "One client"
  how = ""
  if edges:
    complete = len(edges) == count * (count - 1)
    graph = "on a complete graph" if complete else f"on a graph of {len(edges)} links"
    how = f", learning from each other {graph}"
  said = [f"{who} trained with {run.name} for {run.summary['steps']:,} steps{how}."]
  return said + ([f"{replicas} seeds ran side by side."] if replicas > 1 else [])


def _begun(run):
  """How far an unfinished run has come: sentences."""
  last = max((line["step"] for line in run.metrics), default=0)
  steps = run.record.get("config", {}).get("steps")
  goal = f" of {steps:,}" if steps else ""
  return [f"This run of {run.name} has not finished: it stands at step {last:,}{goal}."]


def _dataset(run):
  config = run.record.get("config", {})
  return str(run.summary["dataset"] if run.summary else config.get("source", ""))


def _facts(run):
  """Tiles with the size and the speed of a finished run."""
  if run.summary is None:
    return ""
  count, replicas = table.clients(run)
  speed, duration = "{:,.0f}".format, lambda seconds: str(timedelta(seconds=round(seconds)))
  facts = [
    ("clients", count, str),
    ("heads", len(run.summary["heads"]), str),
    ("steps", run.summary["steps"], "{:,}".format),
    ("seeds", replicas, str),
    ("images/s", run.summary.get("images_per_second"), speed),
    ("waiting for input", run.summary.get("input_bound"), "{:.1%}".format),
    ("compilation", run.summary.get("compile_seconds"), duration),
    ("wall time", run.summary.get("wall_seconds"), duration),
  ]
  tiles = (
    f"<div><dt>{name}</dt><dd>{text(value)}</dd></div>"
    for name, value, text in facts
    if value is not None
  )
  return f'<dl class="facts">{"".join(tiles)}</dl>'


def _results(group):
  """The closing table."""
  rows = table.rows(group)
  if not rows:
    return ""
  head = "".join(f"<th>{escape(name)}</th>" for name in table.COLUMNS)
  body, own = [], group[0].summary is not None
  for i, row in enumerate(rows):
    own = own and (i == 0 or row.run == "")
    kind = ("first " if row.run else "") + ("own" if own else "")
    named = zip(table.COLUMNS, row, strict=True)
    cells = "".join(f'<td data-name="{name}">{escape(text)}</td>' for name, text in named)
    body.append(f'<tr class="{kind}">{cells}</tr>')
  return (
    f'<h2>Results</h2>\n<div class="scroll"><table class="results"><thead><tr>{head}</tr></thead>'
    f'<tbody>{"".join(body)}</tbody></table></div>\n<p class="note">'
    f"{escape(table.caption(group))}</p>"
  )


def _picture(title, drawn):
  """A figure in light and dark; a printer gets the light one."""
  light, dark = (base64.b64encode(x).decode() for x in (drawn.light.read_bytes(), drawn.dark))
  night = "screen and (prefers-color-scheme: dark)"
  return (
    f'<picture><source media="{night}" srcset="data:image/png;base64,{dark}">'
    f'<img alt="{title}" src="data:image/png;base64,{light}"></picture>'
  )


def _pictures(group, figures):
  """The figures, embedded."""
  remarks = dict.fromkeys(FIGURES, "")
  if group[0].summary and table.clients(group[0])[1] > 1:
    remarks |= dict.fromkeys(("owners", "distances"), " Mean over the seeds.")
    remarks |= dict.fromkeys(("graph", "labels"), " Of the first seed.")
    remarks["traffic"] = " All seeds together."
    remarks["confusion"] = " Mean over the seeds."
  if len(group) > 1:
    other = " Dashed: baselines, where runs differ in length each over its own."
    remarks["shared"] = remarks["private"] = other
    remarks["traffic"] += " Grey: baselines."
  cards = []
  for name, drawn in figures.items():
    title, text = FIGURES[name]
    kind = ' class="wide"' if name in ("owners", "labels", "overlap", "confusion") else ""
    caption = escape(text + remarks[name])
    cards.append(
      f'<figure{kind}><h3>{title}</h3><div class="picture">{_picture(title, drawn)}</div>'
      f"<figcaption>{caption}</figcaption></figure>"
    )
  return f'<h2>Figures</h2>\n<div class="figures">{"".join(cards)}</div>' if cards else ""


def _record(record):
  """config.json: the resolved config, then versions, device and the rest."""
  about = {key: value for key, value in record.items() if key != "config"}
  parts = [("Config", record.get("config", {})), ("Versions and device", about)]
  boxes = []
  for title, tree in parts:
    cells = (f"<tr><td>{escape(key)}</td><td>{escape(text)}</td></tr>" for key, text in _flat(tree))
    pairs = f'<table class="pairs">{"".join(cells)}</table>'
    if tree:
      boxes.append(f"<details><summary>{title}</summary>{pairs}</details>")
  return "<h2>How it was made</h2>\n" + "\n".join(boxes) if boxes else ""


def _flat(tree, prefix=""):
  """A nested dict as (dotted key, text) pairs."""
  for key, value in tree.items():
    if isinstance(value, dict) and value:
      yield from _flat(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _commands(workdir, record):
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


def report_cli(argv: list[str]) -> int:
  """`kdjax report RUN`; returns the exit code."""
  if len(argv) != 1:
    raise ConfigError("RUN", argv, "one run's folder: kdjax report RUN")
  print(write_report(argv[0]))
  return 0
