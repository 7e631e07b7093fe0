"""Several processes of one run on this machine, over gloo on a CPU.

  python launch/local.py --processes=4 -- --config=configs/mhd_digits.py --workdir=runs/digits

What follows `--` goes to `python -m kdjax.main`. Ends with the worst exit code; when one process
fails the others are ended. SIGTERM and SIGINT are passed on, so that all of them save and stop.
"""

import argparse
import signal
import socket
import subprocess
import sys
import time


def main():
  """Starts the processes and waits for them; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--processes", type=int, required=True)
  parser.add_argument("arguments", nargs=argparse.REMAINDER, help="-- and what kdjax.main takes")
  parsed = parser.parse_args()
  processes, rest = parsed.processes, [a for a in parsed.arguments if a != "--"]
  common = [f"--coordinator=localhost:{free_port()}", f"--processes={processes}"]
  start = [sys.executable, "-m", "kdjax.main", *rest, *common]
  running = [subprocess.Popen([*start, f"--process={i}"]) for i in range(processes)]

  def pass_on(number, frame):
    for process in running:
      process.send_signal(number)

  signal.signal(signal.SIGTERM, pass_on)
  signal.signal(signal.SIGINT, pass_on)
  return wait(running)


def free_port():
  """A TCP port that nothing uses now."""
  with socket.socket() as s:
    s.bind(("localhost", 0))
    return s.getsockname()[1]


def wait(running):
  """Waits for all; a fault in one ends the others. 0, 42 (stopped, resumable), or the fault's."""
  while any(p.poll() is None for p in running):
    if any(p.poll() not in (None, 0, 42) for p in running):
      for process in running:
        process.terminate()
      break
    time.sleep(0.1)
  codes = [p.wait() for p in running]
  faults = [c for c in codes if c not in (0, 42)]
  return faults[0] if faults else max(codes)


if __name__ == "__main__":
  sys.exit(main())
