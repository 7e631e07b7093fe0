"""Command lines, each in a fork of one process that has imported what they all import."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SERVE = f"import sys; sys.path.append({str(Path(__file__).parent)!r}); import commands"
SERVE += "; commands.serve()"


class Commands:
  """Runs `kdjax WORDS...` in the root folder, one at a time."""

  def __init__(self, **environment: str) -> None:
    """Begins to import."""
    self.server = subprocess.Popen(
      [sys.executable, "-c", SERVE],
      cwd=ROOT,
      env=os.environ | environment,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def run(self, *words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    with tempfile.TemporaryDirectory() as folder:
      paths = [Path(folder) / name for name in ("out", "err")]
      self.server.stdin.write(json.dumps([words, *map(str, paths)]) + "\n")
      self.server.stdin.flush()
      code = int(self.server.stdout.readline())
      out, err = (path.read_text() for path in paths)
    return code, out, err

  def close(self) -> None:
    """Ends the process."""
    self.server.communicate()


def serve() -> None:
  """Forks for every line of stdin, and writes the exit codes; no device is used in between."""
  import sklearn.datasets  # noqa: F401, what the quickstart loads later

  from kdjax import api, main  # noqa: F401
  from kdjax.report import page, table  # noqa: F401
  from kdjax.training import loop  # noqa: F401

  for line in sys.stdin:
    words, *paths = json.loads(line)
    child = os.fork()
    if not child:
      signal.alarm(300)  # one that hangs ends, and so does the test
      for number, path in enumerate(paths, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
      sys.argv = ["main.py", *words]
      try:
        main.cli()
        code = 0
      except SystemExit as end:
        code = end.code
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(code)  # without taking apart all that was imported
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
