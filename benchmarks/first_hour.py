"""The first hour on a new GPU: measurements in order of their worth, within some minutes.

  python -m benchmarks.first_hour --out=DIR                    each further call continues
  python -m benchmarks.first_hour --out=DIR --resume=TAR       on another machine
  python -m benchmarks.first_hour --out=DIR --quick            a rehearsal, also without a GPU

PyTorch runs under this interpreter too, or under --torch=PYTHON. Missing packages are reported
before any work; docs/hardware.md describes how to bring them to a machine without a network.

Each part is a process with a time limit of its own. At the limit it is cut, and may still write its
results. A part that is cut or fails is tried again at the next call, after the others, with the
programs compiled so far. All files are in the folder --work. After every part DIR gets two files:

  done.json            {part: exit code}
  first_hour.tar.gz    logs, records and compiled programs, for --resume
"""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import NamedTuple

PYTHON = sys.executable
NEEDED = (  # the modules that kdjax and the parts below import
  *("jax", "jaxlib", "flax", "optax", "orbax.checkpoint", "ml_collections", "absl", "jaxtyping"),
  *("numpy", "scipy", "sklearn", "PIL", "matplotlib", "rich", "etils"),
)
GRACE = 15.0  # seconds between SIGTERM and SIGKILL
READY = 0.7  # the share of a contest's time to get ready in
MOST = 14 * 2**20  # the most bytes to pack
SUITES = ("accelerator", "maps", "fedavg")


class Part(NamedTuple):
  """One part of the hour."""

  name: str
  minutes: float  # its time limit
  command: tuple[str, ...]
  quick: tuple[str, ...]  # the command of its rehearsal: the same program at its smallest
  missing: str = ""  # why it cannot run here; '': it can


def suite(
  name: str,
  minutes: float,
  contest: str,
  clients: int,
  *more: str,
  small: str = "",
  missing: str = "",
) -> Part:
  """The contest of a benchmark's suite whose name holds `contest`, for K clients.

  Args:
    name: the suite's name.
    minutes, missing: as in `Part`.
    contest, clients: the contest, and its number of clients K.
    *more: further options; those that name interpreters are also the rehearsal's.
    small: the contest of the rehearsal; '': the same one.
  """
  command = (PYTHON, "-m", "benchmarks", name)
  python = [option for option in more if option.startswith("--python=")]
  quick = (*command, f"--only={small or contest}", "--clients=2", "--quick", "--runs=1", *python)
  ready = f"--ready={60 * READY * minutes:.0f}"
  command += (f"--only={contest}", f"--clients={clients}", "--out=records", ready, *more)
  label = ", ".join(filter(None, (name, contest, f"K = {clients}")))
  return Part(label, minutes, command, quick, missing)


def parts(data: str, torch: str, fedjax: str) -> tuple[Part, ...]:
  """All parts, those of most worth first; they write their results into their working directory.

  Args:
    data: a folder of data sets, or ''.
    torch, fedjax: the interpreters with PyTorch and with FedJAX, or ''.
  """
  beside, record = pythons(torch=torch), "--record=measured.csv"
  correct = (PYTHON, "-m", "benchmarks.correct", "--out=correct")
  measure = (PYTHON, "-m", "kdjax", "measure")
  reproduce = (PYTHON, "-m", "kdjax", "reproduce", "--workdir=claims")
  return (
    Part("correct", 6, correct, (*correct, "--only=separate", "--calls=3")),
    suite("accelerator", 9, "MHD", 8, *beside),
    suite("accelerator", 6, "resnet20", 16, *beside),
    Part(
      "plan beside measurement",
      7,
      (*measure, f"--config={Path(__file__).parent / 'noise.py'}"),
      (*measure, "--config=mhd_digits:separate", "--runs=1"),
    ),
    suite("maps", 6, "resnet20", 16, record),
    suite("maps", 7, "resnet34", 8, record, small="mlp"),
    suite(
      *("fedavg", 3, "", 10, *pythons(fedjax=fedjax)),
      missing="" if fedjax else "no FedJAX",
    ),
    suite("maps", 5, "resnet20", 5, record),
    suite("accelerator", 9, "separate", 8, *beside),
    suite("accelerator", 8, "resnet20", 64, *beside),
    suite("maps", 8, "resnet20", 64, record),
    Part(
      "claims of MHD",
      9,
      (*reproduce, "mhd", "--size=gpu", "--minutes=8", f"--data={os.path.abspath(data)}"),
      (*reproduce, "mhd.heads", "--size=tiny", "--minutes=1"),
      missing="" if data else "no data",
    ),
  )


def pythons(**interpreters: str) -> list[str]:
  """The options of `python -m benchmarks` that name the given interpreters."""
  return [f"--python={name}={os.path.abspath(path)}" for name, path in interpreters.items() if path]


def rehearsed(part: Part) -> Part:
  """The rehearsal of a part, under a name of its own; it leaves no record."""
  return part._replace(name=f"quick {part.name}", command=part.quick)


def plain(name: str) -> str:
  """A name with letters, digits, dots and dashes alone."""
  return re.sub(r"[^A-Za-z0-9.-]+", "_", name)


def absent(torch: str, fedjax: str, *more: str) -> list[str]:
  """The missing modules of NEEDED and `more`, and those missing under other interpreters."""
  found = [name for name in (*NEEDED, *more) if not _is_there(name)]
  for python, module in ((torch, "torch"), (fedjax, "fedjax")):
    if (
      python and subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode
    ):
      found.append(f"{module} (under {python})")
  return found


def _is_there(name):
  try:
    return importlib.util.find_spec(name) is not None
  except ModuleNotFoundError:  # the package of the module is missing
    return False


def run(part: Part, work: Path, seconds: float) -> int:
  """Runs a part in a folder for at most `seconds`, logged in NAME.log; returns its exit code."""
  root = Path(__file__).parents[1]
  environment = os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH")))),
    "BENCHMARKS_CACHE": str(work / "cache"),
    "JAX_COMPILATION_CACHE_DIR": str(work / "cache" / "jax"),
  }
  with open(work / f"{plain(part.name)}.log", "ab") as log:
    child = subprocess.Popen(
      part.command, cwd=work, stdout=log, stderr=log, env=environment, start_new_session=True
    )
  with contextlib.suppress(subprocess.TimeoutExpired), ended(child):
    child.wait(timeout=seconds)
  return child.returncode


@contextlib.contextmanager
def ended(child: subprocess.Popen):
  """Ends a process when the context is left: first by SIGTERM, after `GRACE` by SIGKILL."""
  try:
    yield
  finally:
    if child.poll() is None:
      os.killpg(child.pid, signal.SIGTERM)
      with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=GRACE)
    with contextlib.suppress(ProcessLookupError):
      os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def do(every: tuple[Part, ...], out: Path, work: Path, minutes: float) -> dict[str, int]:
  """Runs the parts that have not succeeded and fit into the time; returns {part: exit code}."""
  end = time.monotonic() + 60 * minutes
  codes = begin(out, work)
  for part in sorted((p for p in every if codes.get(p.name) != 0), key=lambda p: p.name in codes):
    if part.missing:
      print(f"not run: {part.name}, {part.missing}", flush=True)
      continue
    left = end - time.monotonic()
    if left < 60 * part.minutes:
      print(f"later: {part.name}, {part.minutes:g} minutes", flush=True)
      continue
    began = time.monotonic()
    try:
      codes[part.name] = run(part, work, 60 * part.minutes)
    finally:
      keep(codes, out, work)
    print(f"{part.name}: {codes[part.name]}, {time.monotonic() - began:.0f} s", flush=True)
  return codes


def begin(out: Path, work: Path) -> dict[str, int]:
  """Makes the folders and the document for the suites' tables; returns the exit codes so far."""
  out.mkdir(parents=True, exist_ok=True)
  work.mkdir(parents=True, exist_ok=True)
  if not (work / "records.md").exists():
    markers = (f"<!-- {name} -->\n<!-- /{name} -->\n" for name in SUITES)
    (work / "records.md").write_text("\n".join(markers))
  path = work / "done.json"
  return json.loads(path.read_text()) if path.exists() else {}


def keep(codes: dict[str, int], out: Path, work: Path) -> None:
  """Writes OUT/done.json and OUT/first_hour.tar.gz, with the smallest files up to `MOST` bytes.

  The weights that `correct` compares are left out.
  """
  text = json.dumps(codes, indent=1) + "\n"
  (work / "done.json").write_text(text)
  (out / "done.json").write_text(text)
  sizes = {path: path.stat().st_size for path in work.rglob("*") if path.is_file()}
  room = MOST
  with tarfile.open(out / "first_hour.tar.gz", "w:gz") as tar:
    for path in sorted((p for p in sizes if p.suffix != ".npz"), key=lambda p: sizes[p]):
      room -= sizes[path]
      if room < 0:
        break
      tar.add(path, str(path.relative_to(work)))


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns 0 if every part that can run here has succeeded."""
  parser = argparse.ArgumentParser("python -m benchmarks.first_hour")
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--work", type=Path, default=Path("runs/first_hour"))
  parser.add_argument("--resume", type=Path, help="an earlier first_hour.tar.gz: unpacked first")
  parser.add_argument("--minutes", type=float, default=9.5)
  parser.add_argument("--data", default="", help="a folder of data sets, for the claims")
  parser.add_argument("--torch", default=PYTHON, help="the interpreter that has PyTorch, or ''")
  parser.add_argument("--fedjax", default="", help="the interpreter that has FedJAX")
  parser.add_argument("--only", default="", help="parts whose name holds this")
  parser.add_argument("--quick", action="store_true", help="a rehearsal: the smallest of all")
  parser.add_argument("--list", action="store_true", help="name the parts, and stop")
  options = parser.parse_args(argv)
  every = parts(options.data, options.torch, options.fedjax)
  every = tuple(part for part in every if options.only in part.name)
  if options.list:
    for part in every:
      print(f"{part.minutes:4g} min  {part.name}{part.missing and ', not run: '}{part.missing}")
    return 0
  missing = absent(options.torch, options.fedjax, *(["tensorboardX"] if options.data else []))
  if missing:
    print("missing: " + ", ".join(missing))
    return 2
  if options.resume:
    with tarfile.open(options.resume) as tar:
      tar.extractall(options.work, filter="data")
  if options.quick:
    every = tuple(map(rehearsed, every))
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  codes = do(every, options.out, options.work.resolve(), options.minutes)
  return 0 if all(codes.get(part.name) == 0 or part.missing for part in every) else 1


if __name__ == "__main__":
  sys.exit(main())
