"""Clients that train apart, all on this machine: a process each, or one for every few.

  python launch/peers.py --clients=5 -- --config=mhd_digits --config.replicas=1 --workdir=runs/apart

What follows `--` goes to `python -m kdjax.main`, with --peers=FOLDER and --peer=NUMBERS. Each
process has a folder of its own, WORKDIR/peer-NUMBERS; they meet in WORKDIR/shared. Nobody waits for
another: when one fails the others go on, and its own command, as printed, starts it again. SIGTERM
and SIGINT are passed on. Ends with the worst exit code.
"""

import argparse
import shlex
import signal
import subprocess
import sys
from pathlib import Path

CALM = (0, 42)  # done, and stopped by a signal: the same command resumes


def main():
  """Starts the processes and waits for them; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--clients", type=int, required=True, help="how many the config has")
  parser.add_argument("--together", type=int, default=1, help="clients a process")
  parser.add_argument("--peers", help="the shared folder; WORKDIR/shared")
  parser.add_argument("arguments", nargs=argparse.REMAINDER, help="-- and what kdjax.main takes")
  parsed = parser.parse_args()
  rest = [a for a in parsed.arguments if a != "--"]
  shared = parsed.peers or str(workdir(rest) / "shared")
  numbers = [str(k) for k in range(parsed.clients)]
  groups = [numbers[k : k + parsed.together] for k in range(0, len(numbers), parsed.together)]
  start = [sys.executable, "-m", "kdjax.main", *rest, f"--peers={shared}"]
  commands = [[*start, f"--peer={','.join(group)}"] for group in groups]
  for command in commands:
    print(shlex.join(command), flush=True)
  running = [subprocess.Popen(command) for command in commands]

  def pass_on(number, frame):
    for process in running:
      process.send_signal(number)

  signal.signal(signal.SIGTERM, pass_on)
  signal.signal(signal.SIGINT, pass_on)
  return worst([process.wait() for process in running])


def workdir(arguments):
  """The --workdir among arguments of kdjax.main."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument("--workdir", required=True, type=Path)
  return parser.parse_known_args(arguments)[0].workdir


def worst(codes):
  """A fault's exit code, or 42 where anyone was stopped, or 0."""
  faults = [code for code in codes if code not in CALM]
  return faults[0] if faults else max(codes)


if __name__ == "__main__":
  sys.exit(main())
