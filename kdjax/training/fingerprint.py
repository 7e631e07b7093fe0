"""What a run depends on besides its config: the examples, and the user's code that it names.

A folder's `config.json` keeps digests of both. Other examples make another run, and are refused.
Other code may be a corrected comment, and is only reported.
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

OWN_NAME = re.compile(r"([A-Za-z_][\w.]*):\w+")  # 'package.module:name'
PACKAGE = Path(__file__).parent.parent


def examples(data: "Data") -> str:
  """A digest of all labels, and of the examples themselves if they are in memory."""
  digest = hashlib.sha256()
  for half in (data.source.train, data.public, data.source.test):
    for array in (half.labels, half.array):
      if array is not None:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  return digest.hexdigest()


def code(config: dict[str, Any]) -> dict[str, str]:
  """{file: digest} of the modules that a config names and that are not part of kdjax."""
  digests = {}
  for text in _texts(config):
    name = OWN_NAME.fullmatch(text)
    module = sys.modules.get(name.group(1)) if name else None
    path = Path(getattr(module, "__file__", None) or "")
    if path.is_file() and not path.is_relative_to(PACKAGE):
      digests[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
  return digests


def folders(record: dict[str, Any]) -> Iterator[Path]:
  """The folders that held the modules that a run names, by its `config.json`."""
  for text in _texts(record["config"]):
    name = OWN_NAME.fullmatch(text)
    parts = tuple(name.group(1).split(".")) if name else ()
    for file in map(Path, record.get("code", {}) if parts else ()):
      path = file.parent if file.stem == "__init__" else file.with_suffix("")
      if path.parts[-len(parts) :] == parts:
        yield path.parents[len(parts) - 1]


def _texts(value: Any) -> Iterator[str]:
  """Yields every string in a nested config."""
  if isinstance(value, str):
    yield value
  elif isinstance(value, (dict, list, tuple)):
    for item in value.values() if isinstance(value, dict) else value:
      yield from _texts(item)


def check(workdir: str | Path, record: dict[str, Any], experiment: "Experiment") -> None:
  """Refuses a folder whose run began with other examples, and reports code that has changed.

  Args:
    workdir: the folder.
    record: its `config.json`; an older kdjax's has no digests, and then nothing is checked.
    experiment: the experiment that is to continue there.

  Raises:
    ConfigError: for other examples.
  """
  if record.get("data", "") and record["data"] != examples(experiment.data):
    hint = "was begun with other examples, under the same config: use another workdir"
    raise ConfigError("workdir", str(workdir), hint)
  digests = code(experiment.config)
  for path, before in record.get("code", {}).items():
    if digests.get(path, before) != before:
      note = "the steps trained before are kept"
      agreement.say(f"{path} has changed since {workdir} was begun: {note}")
