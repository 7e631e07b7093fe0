"""The first hour on a new accelerator: so many minutes of work, in order of worth.

  python -m benchmarks.first_hour --out=DIR --minutes=10        again and again: it goes on
  python -m benchmarks.first_hour --out=DIR --quick             a rehearsal, also without one

PyTorch runs under this interpreter too, or under --torch=PYTHON.

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
  quick: tuple[str, ...]  # its rehearsal: the same program at its smallest
  keep: tuple[Path, ...] = ()  # files that are copied into DIR afterwards


def suite(name: str, minutes: float, contest: str, clients: int, *rival: str) -> Part:
  """The contests of a benchmark's suite whose name holds `contest`, for K clients."""
  command = (PYTHON, "-m", "benchmarks", name, f"--only={contest}", *rival)
  quick = (*command, "--clients=2", "--quick", "--runs=1")
  command = (*command, f"--clients={clients}")
  return Part(
    f"{name} {contest} K = {clients}", minutes, command, quick, (RECORDS / f"{name}.json",)
  )


def parts(out: Path, data: str, torch: str) -> tuple[Part, ...]:
  """All parts, the most worth first.

  Args:
    out: where they leave what they find.
    data: a folder of data sets, or ''.
    torch: the interpreter that has PyTorch.
  """
  beside = f"--python=torch={torch}"
  correct = (PYTHON, "-m", "benchmarks.correct", f"--out={out}")
  measure = (PYTHON, "-m", "kdjax", "measure")
  reproduce = (PYTHON, "-m", "kdjax", "reproduce", f"--workdir={out}/claims")
  claims = (*reproduce, "mhd", "--size=gpu", "--minutes=8")
  return (
    Part("correct", 6, correct, (*correct, "--only=mhd_digits:separate", "--calls=3")),
    suite("accelerator", 8, "MHD", 8, beside),
    suite("accelerator", 6, "resnet20", 16, beside),
    Part(
      "plan beside measurement",
      6,
      (*measure, "--config=mhd_cifar10"),
      (*measure, "--config=mhd_digits:separate", "--runs=1"),
    ),
    suite("maps", 6, "resnet20", 16),
    suite("maps", 5, "resnet20", 5),
    suite("maps", 4, "cnn", 8),
    suite("maps", 3, "mlp", 8),
    suite("accelerator", 8, "separate", 8, beside),
    suite("accelerator", 8, "resnet20", 64, beside),
    suite("maps", 8, "resnet20", 64),
    Part(
      "claims of MHD",
      9,
      claims + ((f"--data={data}",) if data else ()),
      (*reproduce, "mhd.heads", "--size=tiny", "--minutes=1"),
    ),
  )


def rehearsed(part: Part) -> Part:
  """The same part at its smallest; it leaves no record."""
  return part._replace(command=part.quick, keep=())


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
  parser.add_argument("--torch", default=PYTHON, help="the interpreter that has PyTorch")
  parser.add_argument("--quick", action="store_true", help="a rehearsal: the smallest of all")
  parser.add_argument("--list", action="store_true", help="name the parts, and stop")
  options = parser.parse_args(argv)
  every = parts(options.out, options.data, options.torch)
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
