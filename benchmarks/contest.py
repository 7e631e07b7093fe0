"""Contests: processes that do the same work and are timed in turn.

A contestant is a process of its own, `COMMAND 'JSON spec'`. It builds and warms up, then writes one
JSON line {"ready": true, ...facts}. For every line that it reads, it does one block of work, waits
for the results and writes {"seconds": s}, or {"parts": {name: s}} if a block has several parts.
When its input ends, it writes {"peak_rss_bytes": n} and exits. All contestants are alive at the
same time, and one computes at a time. Their order rotates, so that a slower minute of the machine
affects all of them.
"""

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time

LIMIT = 1800.0  # seconds that a contestant may take for an answer
PATIENCE = 60.0  # seconds that a contestant may take to end


@dataclasses.dataclass(frozen=True)
class Contestant:
  """One side of a contest."""

  name: str
  command: tuple[str, ...]  # (): it cannot run here
  spec: dict  # the process's argument; `steps` is the work of a block
  images: float = 0.0  # private and public examples of one step, all clients
  flops: float = 0.0  # FLOPs of one step, all clients
  missing: str = ""  # why it cannot run
  environment: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Contest:
  """Contestants that do the same work; the others are compared with the first."""

  name: str
  contestants: tuple[Contestant, ...]


class DroppedOutError(RuntimeError):
  """A contestant died or did not answer; the message is its last line."""


class CutError(Exception):
  """The program was ended by SIGTERM; `rows` are those of the contest under way, see `run`."""

  rows = ()


def cut(*_):
  """A handler of SIGTERM: ends the contest under way, and its contestants at once."""
  raise CutError


class Process:
  """The process of a contestant, which runs until the context is left."""

  def __init__(self, contestant):
    """Starts the process, whose first answer says that it is ready.

    Raises:
      DroppedOutError: if there is no such program.
    """
    self._stderr = tempfile.TemporaryFile()  # noqa: SIM115, closed by `stop`
    try:
      self._process = subprocess.Popen(
        [*contestant.command, json.dumps(contestant.spec)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=self._stderr,
        env=os.environ | contestant.environment,
        start_new_session=True,  # so that its own children end with it
      )
    except OSError as error:
      self._stderr.close()
      raise DroppedOutError(str(error)) from None
    self._lines = queue.Queue()
    threading.Thread(target=self._read, daemon=True).start()

  def _read(self):
    for line in self._process.stdout:
      self._lines.put(line)
    self._lines.put(None)

  def answer(self, limit=LIMIT):
    """The next JSON line.

    Args:
      limit: seconds that it may take.

    Raises:
      DroppedOutError: if no valid line comes in time.
    """
    try:
      line = self._lines.get(timeout=max(limit, 0))
    except queue.Empty:
      raise DroppedOutError(f"no answer within {limit:.0f} s") from None
    if line is None:
      raise DroppedOutError(self._last_words())
    try:
      return json.loads(line)
    except json.JSONDecodeError:
      raise DroppedOutError(f"broke the protocol: {line[:80]!r}") from None

  def block(self):
    """The answer to one request for a block."""
    with contextlib.suppress(BrokenPipeError):  # the process died; `answer` raises
      self._process.stdin.write(b"block\n")
      self._process.stdin.flush()
    return self.answer()

  def last(self):
    """Ends the process's input, and returns its last answer."""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    return self.answer()

  def _last_words(self):
    self._process.wait()
    self._stderr.seek(0)
    lines = [line.strip() for line in self._stderr.read().decode(errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "it wrote nothing")
    return last if len(last) <= 200 else last[:200] + "..."

  def __enter__(self):
    return self

  def __exit__(self, error, *_):
    self.stop(patience=0 if error else PATIENCE)

  def stop(self, patience):
    """Ends the process and its children, by force after `patience` seconds."""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
      self._process.wait(timeout=patience)
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, signal.SIGKILL)
    self._process.wait()
    self._process.stdout.close()
    self._stderr.close()


def run(contest, runs, log, ready=None):
  """Times a contest.

  Args:
    contest: Contest.
    runs: blocks of every contestant.
    log: called with a line of text now and then.
    ready: seconds in which all contestants together must get ready, and each in half of them; a
      contestant that does not is left out. None: `LIMIT` each.

  Returns:
    Rows, one per contestant (one per part, if its blocks have parts): dicts with `name`, `steps`,
    `images`, `flops`, `seconds` (one number per block) and `facts`. A row with `error` instead of
    the last two says why the contestant was not run.

  Raises:
    CutError: if `cut` was called; it holds the rows so far.
  """
  rows = {c.name: _row(c) for c in contest.contestants}
  try:
    with contextlib.ExitStack() as stack:
      alive = _ready(contest, rows, stack, log, ready)
      for turn in range(runs):
        log(f"{contest.name}: round {turn + 1} of {runs}")
        for name in rotated(list(alive), turn):
          with _noted(rows[name], alive):
            rows[name]["seconds"].append(_seconds(alive[name].block()))
      for name in list(alive):
        with _noted(rows[name], alive):
          rows[name]["facts"] |= alive[name].last()
  except CutError as error:
    for row in rows.values():
      if not row["seconds"]:
        row.setdefault("error", "the contest was cut before its first block")
    error.rows = _whole(rows)
    raise
  return _whole(rows)


def _ready(contest, rows, stack, log, ready):
  """Starts the contestants one after another; {name: its Process} of those that got ready."""
  alive = {}
  end = time.monotonic() + (ready or 0)
  for c in contest.contestants:
    if not c.command:
      rows[c.name]["error"] = c.missing
      continue
    log(f"{contest.name}: {c.name} gets ready")
    with _noted(rows[c.name], alive):
      alive[c.name] = stack.enter_context(Process(c))
      limit = min(ready / 2, end - time.monotonic()) if ready else LIMIT
      facts = alive[c.name].answer(limit)
      rows[c.name]["facts"] = {k: v for k, v in facts.items() if k != "ready"}
  return alive


def _whole(rows):
  return [part for row in rows.values() for part in split(row)]


def _row(c):
  steps = c.spec.get("steps", 1)
  return dict(name=c.name, steps=steps, images=c.images, flops=c.flops, seconds=[], facts={})


def _seconds(answer):
  return answer["parts"] if "parts" in answer else answer["seconds"]


@contextlib.contextmanager
def _noted(row, alive):
  """Notes the error that ends a contestant in its row; the contest continues without it."""
  try:
    yield
  except DroppedOutError as error:
    row["error"] = str(error)
    if row["name"] in alive:
      alive.pop(row["name"]).stop(patience=0)


def rotated(names, turn):
  """The names in an order that begins with another one every turn."""
  shift = turn % len(names) if names else 0
  return names[shift:] + names[:shift]


def split(row):
  """The rows of a row: one per part if its blocks have parts, otherwise the row itself."""
  if "error" in row:
    return [{k: v for k, v in row.items() if k not in ("seconds", "facts")}]
  if not isinstance(row["seconds"][0], dict):
    return [row]
  parts = row["seconds"][0]
  return [
    row | dict(name=f"{row['name']}: {part}", seconds=[s[part] for s in row["seconds"]])
    for part in parts
  ]
