"""The first hour on a new accelerator: so many minutes of work, in order of worth.

  python -m benchmarks.first_hour --out=DIR --minutes=10        again and again: it goes on
  python -m benchmarks.first_hour --out=DIR --quick             a rehearsal, also without one

Each part is a process with a time of its own; what it leaves lies in DIR, and DIR/done.json says
which parts ended well. A part that is cut or fails is tried again the next time, after the others.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

PYTHON = sys.executable
RECORDS = Path("docs/benchmarks")  # where `python -m benchmarks` leaves its records


class Part(NamedTuple):
  """One thing to do."""

  name: str
  minutes: float  # that it may take
  command: tuple[str, ...]
  keep: tuple[Path, ...] = ()  # files that are copied into DIR afterwards


def suite(name: str, contest: str, minutes: float, clients: int = 0) -> Part:
  """One contest of a benchmark's suite, by its name."""
  torch = (f"--python=torch={PYTHON}",) if name == "accelerator" else ()
  only = (f"--only={contest}", *([f"--clients={clients}"] if clients else []))
  command = (PYTHON, "-m", "benchmarks", name, *only, *torch)
  words = " ".join(filter(None, (name, contest, f"K = {clients}" if clients else "")))
  return Part(words, minutes, command, (RECORDS / f"{name}.json",))


def parts(out: Path, data: str) -> tuple[Part, ...]:
  """All parts, the most worth first."""
  correct = (PYTHON, "-m", "benchmarks.correct", f"--out={out}")
  reproduce = (PYTHON, "-m", "kdjax", "reproduce", "mhd", "--size=gpu", f"--workdir={out}/claims")
  reproduce += (f"--data={data}",) if data else ()
  return (
    Part("correct", 6, correct),
    suite("accelerator", "resnet34, K = 8, batch 128, MHD", 8),
    suite("accelerator", "resnet20", 6, clients=16),
    Part("plan beside measurement", 6, (PYTHON, "-m", "kdjax", "measure", "--config=mhd_cifar10")),
    suite("maps", "resnet20", 6, clients=16),
    suite("maps", "resnet20", 5, clients=5),
    suite("maps", "cnn", 4, clients=8),
    suite("maps", "mlp", 3, clients=8),
    suite("accelerator", "resnet34, K = 8, batch 128, separate", 8),
    suite("accelerator", "resnet20", 8, clients=64),
    suite("maps", "resnet20", 8, clients=64),
    Part("claims of MHD", 9, (*reproduce, "--minutes=8")),
  )


def rehearsed(part: Part) -> Part:
  """The same part at its smallest."""
  if "benchmarks" in part.command:
    return part._replace(command=(*part.command, "--quick", "--runs=1"), keep=())
  if "reproduce" in part.command:
    return part._replace(command=(*part.command, "--report-only"))
  return part._replace(command=(*part.command, "--only=mhd_digits:separate", "--calls=3"))


def run(part: Part, out: Path, seconds: float) -> int:
  """Runs a part, logged in OUT/NAME.log, for at most so many seconds; returns its exit code."""
  with open(out / f"{part.name}.log", "ab") as log:
    child = subprocess.Popen(part.command, stdout=log, stderr=log, start_new_session=True)
    try:
      return child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
      os.killpg(child.pid, signal.SIGKILL)
      return child.wait()
    finally:
      for path in filter(Path.exists, part.keep):
        shutil.copy(path, out / f"{part.name} {path.name}")


def do(every: tuple[Part, ...], out: Path, minutes: float) -> dict[str, int]:
  """Runs what has not ended well yet and fits into the time; returns {part: exit code} so far."""
  end = time.monotonic() + 60 * minutes
  path = out / "done.json"
  out.mkdir(parents=True, exist_ok=True)
  codes = json.loads(path.read_text()) if path.exists() else {}
  waiting = sorted((part for part in every if codes.get(part.name) != 0), key=_tried(codes))
  for part in waiting:
    left = end - time.monotonic()
    if left < 60 * part.minutes:
      print(f"later: {part.name}, {part.minutes:g} minutes", flush=True)
      continue
    begin = time.monotonic()
    codes[part.name] = run(part, out, 60 * part.minutes)
    path.write_text(json.dumps(codes, indent=1) + "\n")
    print(f"{part.name}: {codes[part.name]}, {time.monotonic() - begin:.0f} s", flush=True)
  return codes


def _tried(codes):
  return lambda part: part.name in codes


def main(argv: list[str] | None = None) -> int:
  """Returns 0 where every part has ended well."""
  parser = argparse.ArgumentParser("python -m benchmarks.first_hour")
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--minutes", type=float, default=60.0)
  parser.add_argument("--data", default="", help="a folder of data sets, for the claims")
  parser.add_argument("--quick", action="store_true", help="a rehearsal: the smallest of all")
  parser.add_argument("--list", action="store_true", help="name the parts, and stop")
  options = parser.parse_args(argv)
  every = parts(options.out, options.data)
  if options.list:
    for part in every:
      print(f"{part.minutes:4g} min  {part.name}")
    return 0
  if options.quick:
    every = tuple(map(rehearsed, every))
  codes = do(every, options.out, options.minutes)
  return 0 if all(codes.get(part.name) == 0 for part in every) else 1


if __name__ == "__main__":
  sys.exit(main())
