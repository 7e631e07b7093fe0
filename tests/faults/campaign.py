"""A promise, tried many times: each trial is recorded as it ends, so that a campaign can go on.

`python -m pytest tests/faults` tries every promise a few times; `--thorough` as often as
docs/reliability.md says, and `--campaigns=DIR` keeps the record there: the same command goes on.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HELD = "held"


class Campaign(NamedTuple):
  """How often to try, and where the record is kept."""

  folder: Path
  thorough: bool

  def trials(self, few: int, many: int) -> int:
    """`many` in the long form."""
    return many if self.thorough else few

  def run(self, name: str, trials: int, attempt: Callable[[int], str]) -> None:
    """Tries what has not been tried yet, then asserts that every trial held.

    Args:
      name: of the promise, a file's name.
      trials: how many.
      attempt: number -> 'held', or what happened instead; all that is random follows the number.
    """
    path = self.folder / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    tried = {one["trial"]: one["outcome"] for one in found}
    for trial in range(trials):
      if trial not in tried:
        tried[trial] = attempt(trial)
        with path.open("a") as file:
          file.write(json.dumps({"trial": trial, "outcome": tried[trial]}) + "\n")
    broken = {trial: outcome for trial, outcome in tried.items() if outcome != HELD}
    assert not broken, f"{name}: {len(broken)} of {len(tried)} did not hold: {broken}"
