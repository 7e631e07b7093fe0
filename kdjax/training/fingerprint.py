"""What a run stands on besides its config: the examples, and one's own code that the config names.

A folder's `config.json` keeps both. Other examples are another run; other code may be a comment
that was mended, and is said.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.core import agreement
from kdjax.types import ConfigError

if TYPE_CHECKING:
  from kdjax.data.dataset import Data
  from kdjax.experiment import Experiment

YOURS = re.compile(r"([A-Za-z_][\w.]*):\w+")  # 'package.module:name'
PACKAGE = Path(__file__).parent.parent


def examples(data: "Data") -> str:
  """A digest of all labels, and of the examples themselves where they are in memory."""
  digest = hashlib.sha256()
  for half in (data.source.train, data.public, data.source.test):
    for x in (half.labels, half.array):
      if x is not None:
        digest.update(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
  return digest.hexdigest()


def code(config: dict[str, Any]) -> dict[str, str]:
  """{file: digest} of the modules that a config names and kdjax does not have."""
  found = {}
  for text in _texts(config):
    named = YOURS.fullmatch(text)
    module = sys.modules.get(named.group(1)) if named else None
    path = Path(getattr(module, "__file__", None) or "")
    if path.is_file() and not path.is_relative_to(PACKAGE):
      found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
  return found


def folders(record: dict[str, Any]) -> Iterator[Path]:
  """The folders in which the modules that a run names were found, by its `config.json`."""
  for text in _texts(record["config"]):
    named = YOURS.fullmatch(text)
    parts = tuple(named.group(1).split(".")) if named else ()
    for file in map(Path, record.get("code", {}) if parts else ()):
      path = file.parent if file.stem == "__init__" else file.with_suffix("")
      if path.parts[-len(parts) :] == parts:
        yield path.parents[len(parts) - 1]


def _texts(value: Any) -> Iterator[str]:
  """Every text in a nested config."""
  if isinstance(value, str):
    yield value
  elif isinstance(value, (dict, list, tuple)):
    for one in value.values() if isinstance(value, dict) else value:
      yield from _texts(one)


def check(workdir: str | Path, record: dict[str, Any], experiment: "Experiment") -> None:
  """Refuses a folder whose run was begun with other examples; says which code has changed.

  Args:
    workdir: the folder.
    record: its `config.json`; that of an older kdjax has neither, and nothing is checked.
    experiment: what is to go on there.

  Raises:
    ConfigError: for other examples.
  """
  if record.get("data", "") and record["data"] != examples(experiment.data):
    hint = "was begun with other examples, under the same config: use another workdir"
    raise ConfigError("workdir", str(workdir), hint)
  now = code(experiment.config)
  for path, before in record.get("code", {}).items():
    if now.get(path, before) != before:
      what = "what was trained before stays as it is"
      agreement.say(f"{path} has changed since {workdir} was begun: {what}")
