"""The benchmark program: `python -m benchmarks SUITE...`; `--list` names the suites."""

import argparse
import datetime
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import kdjax
from benchmarks import contest, tables
from benchmarks.options import INSTALL, Options
from kdjax.core import files
from kdjax.core.machine import cores, processor

SUITES = (
  "clients",
  "maps",
  "fedavg",
  "cifar",
  "overhead",
  "parts",
  "sharding",
  "input",
  "checkpoint",
  "tried",
  "accelerator",
)
OUT = "docs/benchmarks"
PUBLISHED = 7  # the least number of runs of a published result


def parse(argv):
  """Parses the command line; ends the program if it is wrong."""
  parser = argparse.ArgumentParser("python -m benchmarks", description="Times kdjax's suites.")
  parser.add_argument("suites", nargs="*", metavar="SUITE", help="suites by name, or all")
  parser.add_argument("--list", action="store_true", help="name the suites, and stop")
  parser.add_argument("--runs", type=int, default=PUBLISHED, help="blocks of every contestant")
  parser.add_argument("--quick", action="store_true", help="a smoke test; writes nothing")
  parser.add_argument("--out", default=OUT, help="OUT/SUITE.json, and the tables in OUT.md")
  parser.add_argument("--clients", default="", help="K, separated by commas")
  parser.add_argument("--only", default="", help="only contests whose name holds this")
  parser.add_argument(
    "--record",
    nargs="?",
    const=str(Path(kdjax.__file__).parent / "measured.csv"),
    metavar="CSV",
    help="maps: keep its times for `auto`, or as rows of a file of that form",
  )
  parser.add_argument(
    "--ready",
    type=float,
    metavar="SECONDS",
    help="all contestants of a contest together have so long to get ready, each half of it",
  )
  parser.add_argument(
    "--python",
    action="append",
    default=[],
    metavar="RIVAL=PATH",
    help="the interpreter of a rival: " + ", ".join(INSTALL),
  )
  args = parser.parse_args(argv)
  for name in args.suites:
    if name not in (*SUITES, "all"):
      parser.error(f"no suite {name!r}: all, or some of {', '.join(SUITES)}")
  for entry in args.python:
    if entry.partition("=")[0] not in INSTALL:
      parser.error(f"--python={entry}: RIVAL=PATH for one of {', '.join(INSTALL)}")
  if not args.suites and not args.list:
    parser.error("name a suite, or all; --list names them")
  if args.record and (args.suites != ["maps"] or args.quick):
    parser.error("--record goes with the suite maps alone, and not with --quick")
  if args.runs < 1:
    parser.error("--runs must be at least 1")
  if args.suites and not args.quick and not Path(args.out).with_suffix(".md").exists():
    parser.error(f"--out={args.out}: there is no {args.out}.md for the tables")
  return args


def main(argv=None):
  """Runs the suites that the command line names; after SIGTERM the blocks timed so far are kept."""
  args = parse(argv)
  names = SUITES if "all" in args.suites else tuple(dict.fromkeys(args.suites))
  if args.list:
    for name in SUITES:
      print(f"{name:12} {load(name).TITLE}")
    return
  options = Options(
    quick=args.quick,
    clients=tuple(int(k) for k in args.clients.split(",") if k),
    only=args.only,
    pythons=dict(entry.split("=", 1) for entry in args.python),
  )
  signal.signal(signal.SIGTERM, contest.cut)
  try:
    for name in names:
      if not run(name, options, args):
        sys.exit(f"--only={args.only}: no contest of {name} has a name that holds this")
  except contest.CutError:
    sys.exit(128 + signal.SIGTERM)


def load(name):
  """A suite's module."""
  return importlib.import_module(f"benchmarks.suites.{name}")


def run(name, options, args):
  """Runs a suite; prints every contest's table, and writes it at once.

  Args:
    name: one of SUITES.
    options: Options.
    args: the arguments of `parse`. `runs`: blocks of every contestant; `ready`: see `contest.run`;
      `out`: the folder of NAME.json, next to the document OUT.md; `quick`: write nothing; `record`:
      the table that gets the suite's times, or None.

  Returns:
    {contest: its result} of the contests that ran.

  Raises:
    CutError: if the program is ended; the rows so far are written first.
  """
  suite = load(name)
  done = {}
  for planned in suite.contests(options):
    before = machine()
    cut = None
    try:
      rows = contest.run(planned, args.runs, lambda text: print(text, file=sys.stderr), args.ready)
    except contest.CutError as error:
      rows, cut = error.rows, error
    blocks = [len(row["seconds"]) for row in rows if "seconds" in row]
    result = dict(before, runs=min(blocks, default=0), rows=rows)
    done[planned.name] = result
    print(f"\n{name}: {planned.name}\n\n{tables.table(rows, suite.COLUMNS)}", flush=True)
    if not args.quick:
      write(suite, name, {planned.name: result}, Path(args.out))
    if args.record:
      suite.record({planned.name: result}, Path(args.record))
    if cut:
      raise cut
  return done


def write(suite, name, results, out):
  """Adds results to those in OUT/NAME.json, and writes the tables into OUT.md."""
  path = out / f"{name}.json"
  document = out.with_suffix(".md")
  old = json.loads(path.read_text())["contests"] if path.exists() else {}
  result = {"suite": name, "contests": old | results}
  out.mkdir(parents=True, exist_ok=True)
  files.replace(path, json.dumps(result, indent=1).encode() + b"\n")
  text = tables.section(result, suite.COLUMNS, suite.NOTE)
  files.replace(document, tables.insert(document.read_text(), name, text).encode())


def machine():
  """The date, the commit, whether files differ from it, the processor and its load."""
  return dict(
    date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    commit=git("rev-parse", "--short=12", "HEAD") or os.environ.get("COMMIT", "unknown"),
    dirty=bool(git("status", "--porcelain", "--", "..", "../../pyproject.toml")),
    cpu=processor(),
    cores=cores(),
    load=os.getloadavg()[0],
  )


def git(*arguments):
  """The output of git in the folder of this file; '' if there is none."""
  folder = Path(__file__).parent
  try:
    out = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
  except FileNotFoundError:
    return ""
  return out.stdout.strip()


if __name__ == "__main__":
  main()
