"""`kdjax reproduce`: the tables, figures and claims of the papers, at the size of this machine.

  kdjax reproduce --list                                  all claims and figures, with their costs
  kdjax reproduce mhd.heads --list                        one claim, its arms and tasks
  kdjax reproduce mhd.heads --size=tiny --workdir=runs/reproduce
  kdjax reproduce mhd fedgkt --size=small --data=DIR --workdir=runs/reproduce

Every claim is judged by rule (`verdict`), after its controls. The folder gets `results.json`, one
page, and the figures. Finished runs in it are kept, and unfinished ones are resumed. Exit codes:
0 done; 42 stopped; 1 a run failed; 2 bad input.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from kdjax.ending import DONE
from kdjax.report import formats
from kdjax.reproduce import documents, listing, page, record, verdict, work
from kdjax.reproduce.claims import SIZES
from kdjax.reproduce.papers import named
from kdjax.reproduce.runs import BLOCK, Asked
from kdjax.reproduce.work import Chosen
from kdjax.types import ConfigError

WIDTH = 100  # columns of text, at most


def reproduce_cli(argv: Sequence[str]) -> int:
  """`kdjax reproduce ...`; returns the exit code.

  Args:
    argv: the words after `reproduce`.

  Raises:
    ConfigError: for a command line that cannot work.
  """
  options = _parser().parse_args(argv)
  chosen = choose(options.names or list(named()))
  width = min(WIDTH, formats.columns(WIDTH))
  if options.list:
    print(listing.text(chosen, options.seeds, width), end="")
    return DONE
  asked = _asked(options)
  code = DONE if options.report_only else work.do(asked, chosen, options.minutes)
  claims, tables = record.collect(asked, chosen), record.tables(asked, chosen)
  if options.documents:
    documents.check([*claims, *tables])
  found = record.write(asked.workdir / record.FILE, claims, tables)
  print(record.text(claims, width), end="")
  print(page.write(asked, chosen, claims, tables))
  if options.documents:
    documents.write(Path(options.documents), found)
  return code


def choose(names: Sequence[str]) -> list[Chosen]:
  """The papers, claims and figures of some names: 'mhd', 'mhd.heads'.

  Raises:
    ConfigError: for an unknown name.
  """
  known = named()
  found: dict[str, Chosen] = {}
  for name in names:
    paper_name, _, item = name.partition(".")
    if paper_name not in known:
      raise ConfigError("NAME", name, f"one of {', '.join(known)}, or PAPER.CLAIM; see --list")
    paper = known[paper_name]
    old = found.get(paper_name, Chosen(paper, (), ()))
    claims = [c for c in paper.claims if item in ("", c.name) or c in old.claims]
    figures = [f for f in paper.figures if item in ("", f.name) or f in old.figures]
    if (len(claims), len(figures)) == (len(old.claims), len(old.figures)):
      own = ", ".join(declared.name for declared in (*paper.claims, *paper.figures))
      raise ConfigError("NAME", name, f"{paper_name} has {own}")
    found[paper_name] = Chosen(paper, claims, figures)
  return list(found.values())


def _asked(options: argparse.Namespace) -> Asked:
  if not options.workdir:
    raise ConfigError("--workdir", None, "name a folder for the runs")
  if options.seeds < verdict.FEWEST or options.seeds % BLOCK:
    raise ConfigError("--seeds", options.seeds, f"a multiple of {BLOCK}: they train in blocks")
  data = Path(options.data) if options.data else None
  if data and not data.is_dir():
    raise ConfigError("--data", options.data, "must be a folder of data sets")
  return Asked(Path(options.workdir), options.size, options.seeds, data)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="kdjax reproduce",
    description="Papers' tables, figures and claims, with controls and a verdict.",
    allow_abbrev=False,
  )
  parser.add_argument("names", nargs="*", metavar="NAME", help="PAPER or PAPER.CLAIM; all")
  parser.add_argument("--list", action="store_true", help="what there is, or of NAMEs, and stop")
  parser.add_argument("--size", choices=SIZES, default="tiny")
  parser.add_argument("--workdir", help="a folder for the runs, the page and results.json")
  parser.add_argument("--data", help="a folder with data sets, such as fashion_mnist.npz")
  parser.add_argument("--seeds", type=int, default=BLOCK, help=f"from 0 on; a multiple of {BLOCK}")
  parser.add_argument("--minutes", type=float, default=0.0, help="stop after so many; 0: never")
  parser.add_argument(
    "--documents", metavar="DIR", help="a checkout: its docs/results.md and README's table too"
  )
  parser.add_argument("--report-only", action="store_true", help="train nothing")
  return parser
