"""Several processes of one run on this machine, over gloo on a CPU.

  python launch/local.py --processes=4 -- --config=configs/mhd_digits.py --workdir=runs/digits

What follows `--` goes to `python -m kdjax.main`. SIGTERM and SIGINT are passed on, so that all of
them save and stop; the second one ends them at once, the third kills them. When one process ends
before its time the others are told to end, and killed where they do not. The exit code is that of
the fault; 44, another process is gone, where nothing says why.
"""

import argparse
import signal
import socket
import subprocess
import sys
import time

GRACE = 30.0  # seconds that the others have
STOPPED, LOST = 42, 44
POLL = 0.1


def main():
  """Starts the processes and waits for them; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--processes", type=int, required=True)
  parser.add_argument("arguments", nargs=argparse.REMAINDER, help="-- and what kdjax.main takes")
  parsed = parser.parse_args()
  heard = []
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: heard.append(number))
  processes, rest = parsed.processes, [a for a in parsed.arguments if a != "--"]
  common = [f"--coordinator=localhost:{free_port()}", f"--processes={processes}"]
  start = [sys.executable, "-m", "kdjax.main", *rest, *common]
  running = [subprocess.Popen([*start, f"--process={i}"]) for i in range(processes)]
  return verdict(wait(running, heard))


def free_port():
  """A TCP port that nothing uses now."""
  with socket.socket() as s:
    s.bind(("localhost", 0))
    return s.getsockname()[1]


def wait(running, heard):
  """Waits for all, passes on what is heard, ends all when one ends early; returns exit codes."""
  passed, early = 0, None
  while any(p.poll() is None for p in running):
    fine = (None, 0, STOPPED) if heard else (None, 0)
    gone = [(i, p.returncode) for i, p in enumerate(running) if p.poll() not in fine]
    if gone and early is None:
      early = time.monotonic()
      print(f"process {gone[0][0]} ended with {gone[0][1]}: ending the others", file=sys.stderr)
      tell(running, signal.SIGTERM)
    if early is not None and time.monotonic() - early > GRACE:
      tell(running, signal.SIGKILL)  # which those that are stopped obey, too
    for number in heard[passed:]:
      passed += 1
      tell(running, number if passed < 3 else signal.SIGKILL)
    time.sleep(POLL)
  return [STOPPED if -p.returncode in heard else p.returncode for p in running]


def tell(running, number):
  """Sends a signal to all who run."""
  for process in running:
    process.send_signal(number)  # does nothing where it has ended


def verdict(codes):
  """The one exit code that says what happened; whoever a signal ended is gone, too."""
  faults = [LOST if c < 0 else c for c in codes if c not in (0, STOPPED)]
  causes = [c for c in faults if c != LOST]
  return (causes or faults or [max(codes)])[0]


if __name__ == "__main__":
  sys.exit(main())
