"""An evaluator of one's own: the documentation's, and one that returns something else."""

import re
import sys
from pathlib import Path

import ensembles
import jax
import numpy as np
import pytest

from kdjax.training.stepper import Stepper
from kdjax.types import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "evals.md"


@pytest.fixture
def my_evals(tmp_path, monkeypatch):
  code = re.search(r"```python\n# my_evals.py\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
  code += "\n\ndef wrong(experiment, *, found: dict):\n  return lambda state: found['found']\n"
  (tmp_path / "my_evals.py").write_text(code)
  monkeypatch.syspath_prepend(tmp_path)
  yield
  sys.modules.pop("my_evals", None)


def stepper(**evals):
  c = ensembles.config("separate", replicas=2, dtype="float32")
  with c.unlocked(), c.ignore_type():
    c.evals = evals
  return Stepper(ensembles.build(c))


def test_the_documented_one_measures_every_client(my_evals):
  one = stepper(**{"my_evals:norms": dict(every=2, order=2.0)})
  e = one.experiment
  state = e.init()
  found = one.evaluate(state)
  flat = [jax.tree.leaves(params) for params, _ in ensembles.by_client(e, state)]
  norms = [np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in leaves)) for leaves in flat]
  assert len(found) == 2
  whole = np.concatenate([one["norm"]["main"] for one in found])
  np.testing.assert_allclose(whole, norms, rtol=1e-5)


@pytest.mark.parametrize("found", [{"a": {"main": 1.0}}, [{"a": {"main": 1.0}}], [{"a": 1.0}] * 2])
def test_what_is_no_list_of_dicts_of_names_is_refused_by_name(found, my_evals):
  one = stepper(**{"my_evals:wrong": dict(every=2, found={"found": found})})
  with pytest.raises(ConfigError, match="evals.my_evals:wrong = .*a list of 2 dicts"):
    one.evaluate(one.experiment.init())
