"""From a model's name and arguments in a config to a model, or to a telling error."""

import subprocess
import sys

import pytest

from kdjax.models.build import build_model
from kdjax.types import ConfigError

SHARED = dict(norm="none", dtype="float32", project=0)
MLP = SHARED | dict(hidden=(8,), activation="tanh")


@pytest.mark.parametrize(
  "name, changes, right",
  [
    ("mpl", {}, "did you mean 'mlp'. one of cifar_resnet, cnn, fedmd, gkt_resnet, mlp, resnet"),
    ("layers", {}, "one of cifar_resnet"),
    ("layers:Conv", {}, "no module 'layers'"),
    ("mlp:Net", {}, r"kdjax.models.mlp \(.*\) defines no 'Net'"),
    ("no_such.package:Net", {}, "no module 'no_such.package' among the installed ones nor in"),
    ("kdjax.no_such", {}, "write 'kdjax.no_such:Model'"),
    ("kdjax.types:Net", {}, "defines no 'Net'"),
    ("..:Net", {}, "package.module:name"),
    (6, {}, "package.module:name"),
    (
      "mlp",
      {"width": 8},
      "no argument of mlp; mlp takes norm: str, .*hidden",
    ),
    ("mlp", {"activation": None}, "of type str"),
    ("mlp", {"activation": "gelu"}, r"activation is one of \('tanh', 'relu'\)"),
    ("mlp", {"norm": "instance"}, "norm is one of"),
    ("mlp", {"dtype": "float16"}, "dtype is one of"),
    ("mlp", {"hidden": ()}, "a tuple of positive integers"),
    ("mlp", {"hidden": (8, 0)}, "a tuple of positive integers"),
    ("mlp", {"hidden": 8}, "a tuple of positive integers"),
    ("mlp", {"project": -1}, "at least 0"),
    ("mlp", {"project": True}, "of type int"),
    ("mlp", {"classes": 1}, "at least 2"),
    ("mlp", {"heads": 0}, "at least 1"),
    ("cifar_resnet", {}, "depth is missing|no argument"),
  ],
)
def test_wrong_models_are_refused_by_name(name, changes, right):
  arguments = dict(classes=10, heads=1) | MLP | changes
  with pytest.raises(ConfigError, match=rf"(?s)(clients|model\.\w+) = .*{right}"):
    build_model(name, **arguments)


def test_a_missing_argument_is_named():
  with pytest.raises(ConfigError, match="activation is missing; mlp takes"):
    build_model("mlp", classes=10, heads=1, **SHARED, hidden=(8,))


def test_lists_are_tuples_and_axes_may_be_given():
  model = build_model(
    "mlp", classes=10, heads=1, **SHARED, hidden=[8, 4], activation="relu", axes=["client", "data"]
  )
  assert model.hidden == (8, 4) and model.axes == ("client", "data")
  assert build_model("mlp", classes=10, heads=1, **SHARED, hidden=[8], activation="relu").axes == (
    "data",
  )


def test_a_file_may_hold_several_models():
  edge = build_model("gkt_resnet:Edge", classes=10, heads=1, **SHARED, depth=8)
  assert type(edge).__qualname__ == "Edge" and edge.depth == 8
  assert type(build_model("mlp:Model", classes=10, heads=1, **MLP)) is type(
    build_model("mlp", classes=10, heads=1, **MLP)
  )


def test_a_users_own_model(tmp_path, monkeypatch):
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "nets.py").write_text(
    "from kdjax.models.mlp import Model\n"
    "def wide(classes: int, heads: int, factor):\n"
    "  return (classes, heads, factor)\n"
  )
  (tmp_path / "mine" / "broken.py").write_text("import a_package_that_is_not_there\n")
  monkeypatch.syspath_prepend(tmp_path)
  assert build_model("mine.nets:Model", classes=3, heads=2, **MLP).heads == 2
  assert build_model("mine.nets:wide", classes=3, heads=2, factor=1.5) == (3, 2, 1.5)
  with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
    build_model("mine.broken:Net", classes=3, heads=2)


def test_importing_the_package_loads_nothing():
  program = "import kdjax.models, sys; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", program]).returncode == 0
