"""Reads a run's folder for its user: config, metrics, results, trained clients."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax import use
from kdjax.core import files
from kdjax.training import run_folder, writer
from kdjax.types import ConfigError

if TYPE_CHECKING:
  import pandas as pd

Row = dict[str, Any]


class Run:
  """A run, finished or not; each property reads its file when it is accessed."""

  def __init__(self, workdir: str | Path):
    """Opens the folder.

    Raises:
      ConfigError: if it holds no run.
    """
    self.workdir = Path(workdir)
    run_folder.read(self.workdir)

  def __repr__(self) -> str:
    return f"Run({str(self.workdir)!r})"

  @property
  def config(self) -> dict[str, Any]:
    """The resolved config, as nested dicts."""
    return self.record["config"]

  @property
  def record(self) -> dict[str, Any]:
    """config.json: the config, versions, device, layout, commit, sizes of the shards."""
    return run_folder.read(self.workdir)

  @property
  def summary(self) -> dict[str, Any] | None:
    """summary.json; None until the run has finished."""
    path = self.workdir / "summary.json"
    return files.read_json(path) if path.exists() else None

  @property
  def baselines(self) -> dict[str, "Run"]:
    """The runs of the variants that it is compared with, by name."""
    folders = sorted(path.parent for path in self.workdir.glob("*/config.json"))
    return {folder.name: Run(folder) for folder in folders}

  def metrics(self) -> list[Row]:
    """The lines of metrics.jsonl: `step`, `phase` and numbers."""
    return writer.read_metrics(self.workdir)

  def curves(self, key: str = "shared_accuracy") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """An accuracy over the run, by seed: {head: (steps i64[T], means over clients f64[T, R])}.

    Args:
      key: such as 'shared_accuracy', 'private_accuracy' or 'ensemble_accuracy'.

    Raises:
      ConfigError: if the log has no such accuracy.
    """
    first, R = self.config["seed"], self.config["replicas"]
    ends = [f"/seed{first + r}" for r in range(R)] if R > 1 else [""]
    lines = [line for line in self.metrics() if line["phase"] == "eval"]
    every = {name for line in lines for name in line if name.startswith(f"{key}/")}
    heads = [name for name in every if name + ends[0] in every and "/std" not in name]
    if not heads:
      known = sorted({name.split("/")[0] for line in lines for name in line} - {"step", "phase"})
      raise ConfigError("key", key, f"not in the log, which has {', '.join(known) or 'none yet'}")
    curves = {}
    for name in sorted(heads):
      rows = [(x["step"], [x[name + end] for end in ends]) for x in lines if name in x]
      steps, values = zip(*rows, strict=True)
      curves[name.removeprefix(f"{key}/")] = np.array(steps), np.array(values, float)
    return curves

  def results(self) -> list[Row]:
    """The finished run's accuracies: a row for every seed, client and head.

    Columns: run, seed, client (-1: one model per seed), head, and every accuracy that was measured.

    Raises:
      ConfigError: if the run has not finished.
    """
    summary = self.summary
    if summary is None:
      raise ConfigError("workdir", str(self.workdir), "has not finished: it has no summary.json")
    rows: dict[tuple, Row] = {}
    for result in summary.get("runs", [summary]):
      K = len(result["label_counts"])
      owners = {(1,): [-1], (K,): result.get("here", range(K))}  # by the shape of the values
      for key in [k for k in result if k.endswith("_accuracy")]:
        for head, numbers in result[key].items():
          values = np.atleast_1d(np.array(numbers, float))
          for k, value in zip(owners.get(values.shape, ()), values, strict=False):
            row = {"run": summary["algorithm"], "seed": result["seed"], "client": k, "head": head}
            rows.setdefault((result["seed"], k, head), row)[key] = float(value)
    return list(rows.values())

  def client(self, client: int, *, seed: int | None = None, step: int | None = None) -> use.Trained:
    """A trained client; see `kdjax.load`.

    Args:
      client: its number among the clients of `seed`, 0 .. K - 1, as in `results`; without a seed,
        its number among those of all seeds, 0 .. R*K - 1.
      seed: one of the run's seeds, if it has several.
      step: the checkpoint to use, a training batch; None: the newest.

    Raises:
      ConfigError: for a seed or client that the run does not have.
    """
    if seed is not None:
      config = self.config
      seeds = range(config["seed"], config["seed"] + config["replicas"])
      K = use.models(self.workdir)
      if seed not in seeds:
        raise ConfigError("seed", seed, f"must be one of {', '.join(map(str, seeds))}")
      if not 0 <= client < K:
        raise ConfigError("client", client, f"must lie in 0..{K - 1}")
      client += K * seeds.index(seed)
    return use.load(self.workdir, client=client, step=step)


def frame(rows: list[Row]) -> "pd.DataFrame":
  """Rows of `Run.metrics` or `Run.results` as a DataFrame.

  Raises:
    ConfigError: if pandas is not installed.
  """
  try:
    import pandas as pd
  except ModuleNotFoundError:
    raise ConfigError("pandas", None, "pip install pandas, or use the rows as they are") from None
  return pd.DataFrame(rows)
