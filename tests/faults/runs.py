"""Small runs of the real command line, to be damaged, and what is left of them, to be compared."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from kdjax.training import run_folder, writer

ROOT = Path(__file__).parent.parent.parent
SAVE_EVERY = 6
COMMON = (
  "--config.replicas=1",
  "--config.compare=()",
  "--config.log_every=1",
  f"--config.save_every={SAVE_EVERY}",
  "--config.evals.accuracy.every=9",
  "--config.mesh.steps_per_dispatch=1",  # so that a moment between two steps is any step
  "--config.mesh.map=vmap",
)
FOUR = ("--config.clients=((4, 'mlp', {'hidden': (8,), 'activation': 'tanh'}),)",)
METHODS = {
  "mhd": (  # a refresh every five steps
    "--config=configs/mhd_digits_cycle.py",
    *FOUR,
    "--config.algo.aux_heads=1",
    "--config.algo.refresh_every=5",
    "--config.steps=200",
  ),
  "fedgkt": (
    "--config=configs/fedgkt_digits.py",
    "--config.rounds=2",
    "--config.algo.server_epochs=1",
  ),
  "pairwise": (
    "--config=configs/pairwise_digits.py",
    "--config.evals.confusion.every=9",
    "--config.rounds=0",
    "--config.steps=100",
  ),
}
TIMES = ("images_per_second", "input_bound")


def start(processes: int, method: str, workdir: Path, *more: str) -> subprocess.Popen:
  """Begins or resumes a run, as the leader of a process group."""
  return start_line(processes, [*METHODS[method], *COMMON, *more], workdir)


def start_line(processes: int, words: list[str], workdir: Path) -> subprocess.Popen:
  """The same with other words."""
  line = [*words, f"--workdir={workdir}"]
  first = ["-m", "kdjax.main"] if processes == 1 else local(processes)
  log = workdir.with_suffix(".log")
  with log.open("ab") as out:
    return subprocess.Popen(
      [sys.executable, *first, *line],
      cwd=ROOT,
      stdout=out,
      stderr=subprocess.STDOUT,
      start_new_session=True,
      env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache())},
    )


def local(processes: int) -> list[str]:
  """What starts several processes here."""
  return ["launch/local.py", f"--processes={processes}", "--"]


def cache() -> Path:
  """Where all these runs keep what they compile."""
  return Path(jax.config.jax_compilation_cache_dir) / "faults"


def kill(running: subprocess.Popen) -> None:
  """Kills a whole group, at once."""
  with contextlib.suppress(ProcessLookupError):
    os.killpg(running.pid, signal.SIGKILL)
  running.wait()


def until(condition, running: subprocess.Popen, seconds: float = 300.0) -> bool:
  """Waits until something holds; False where the run ended before."""
  deadline = time.monotonic() + seconds
  while not condition():
    if running.poll() is not None:
      return False
    assert time.monotonic() < deadline, "nothing happened"
    time.sleep(0.02)
  return True


def step(workdir: Path) -> int:
  """The last step that a run has logged."""
  lines = writer.read_metrics(workdir)
  return lines[-1]["step"] if lines else 0


def saved(workdir: Path) -> int:
  """The newest step that it can go on from."""
  return max(run_folder.steps(workdir), default=0)


def numbers(workdir: Path) -> list[dict]:
  """All that was logged but times."""
  lines = writer.read_metrics(workdir)
  return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def arrays(workdir: Path) -> list[np.ndarray]:
  """All arrays of the newest checkpoint."""
  found = []
  with ocp.StandardCheckpointer() as reader:
    for part in ("model", "rest"):
      path = workdir.resolve() / "checkpoints" / str(saved(workdir)) / part
      shapes = reader.metadata(path).item_metadata.tree
      template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
      found += jax.tree.leaves(reader.restore(path, template))
  return found


def difference(workdir: Path, other: Path) -> str:
  """What two finished runs differ in; '' where every bit is the same."""
  if saved(workdir) != saved(other):
    return f"ended at {saved(workdir)}, not {saved(other)}"
  if numbers(workdir) != numbers(other):
    return "other numbers in metrics.jsonl"
  ones, others = arrays(workdir), arrays(other)
  same = len(ones) == len(others) and all(
    a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    for a, b in zip(ones, others, strict=True)
  )
  return "" if same else "other arrays in the last checkpoint"
