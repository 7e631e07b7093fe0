"""What a config names, in the one form there is: built-in, or 'package.module:name'."""

import dataclasses
import os
import subprocess
import sys

import pytest

from kdjax import plugins
from kdjax.types import ConfigError, Method


def test_every_built_in_method_is_a_method():
  for name in plugins.built_in("kdjax.algorithms"):
    assert isinstance(plugins.find_method(name), Method), name


def test_shared_files_are_no_models_or_evaluators():
  assert not {"build", "conv", "heads", "layers"} & set(plugins.built_in("kdjax.models"))
  own = ["accuracy", "confusion", "linear_probe", "overlap", "prior_offset"]
  assert plugins.built_in("kdjax.evals") == own


@pytest.mark.parametrize(
  "name, hint",
  [
    ("mdh", "did you mean 'mhd'"),
    ("my.module", "write 'my.module:METHOD'"),
    ("no_such:METHOD", "no module 'no_such' among the installed ones nor in .*; one of async_edge"),
    ("kdjax.algorithms.mhd:method", "must name a value of kdjax.types.Method"),
    ("kdjax.types:Method", "must name a value .*: 'kdjax.types:Method' is a class"),
    ("kdjax.types:METHOD", r"kdjax.types \(.*types.py\) defines no 'METHOD'"),
    ("a b:c", "package.module:name"),
  ],
)
def test_a_name_without_a_meaning_says_what_was_looked_for(name, hint):
  with pytest.raises(ConfigError, match=f"^algorithm = .*{hint}"):
    plugins.find_method(name)


def test_a_file_beside_the_script_works_from_anywhere(tmp_path):
  """The console script does not put the working directory on the path; `find_yours` looks there."""
  (tmp_path / "beside.py").write_text("answer = 42\n")
  code = (
    "import sys; sys.path = [p for p in sys.path if p not in ('', sys.argv[1])]\n"
    "from kdjax import plugins; print(plugins.find_yours('beside:answer', key='k', hint=''))"
  )
  environment = os.environ | {"PYTHONPATH": os.getcwd()}
  command = [sys.executable, "-c", code, str(tmp_path)]
  out = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
  assert out.stdout == "42\n", out.stderr


@dataclasses.dataclass(frozen=True)
class Plain:
  """Hyper-parameters of a dataclass without kw_only."""

  rate: float
  steps: int = 3


OWN = Method(Plain, lambda env, hyper: None)
HYPERS = dict(a_value=Plain(0.1), no_dataclass=dict, none=None)
NO_HYPER = {name: OWN._replace(hyper=hyper) for name, hyper in HYPERS.items()}
NO_HEADS = OWN._replace(heads=("main",))


@pytest.mark.parametrize("name", NO_HYPER)
def test_hyper_parameters_are_a_dataclass(monkeypatch, name):
  monkeypatch.setattr(sys.modules[__name__], "OWN", NO_HYPER[name])
  with pytest.raises(ConfigError, match="its hyper must be a dataclass: @dataclasses.dataclass"):
    plugins.find_method(f"{__name__}:OWN")


def test_heads_are_a_function_of_the_hyper_parameters():
  with pytest.raises(ConfigError, match="its heads must be a function"):
    plugins.find_method(f"{__name__}:NO_HEADS")


def test_a_dataclass_gives_its_fields_with_or_without_kw_only():
  hyper = plugins.find_method(f"{__name__}:OWN").hyper
  assert plugins.call(hyper, key="algo", arguments=dict(rate=0.5)) == Plain(0.5, 3)
  with pytest.raises(
    ConfigError, match=r"algo.rat = 0.5: did you mean rate\? .* takes rate, steps"
  ):
    plugins.call(hyper, key="algo", arguments=dict(rat=0.5))


def needs(*, a: int, b: int, c: int, d: int = 0):
  return a, b, c, d


def test_all_that_is_missing_is_said_at_once():
  with pytest.raises(ConfigError, match="^k = {'b': 1}: missing: a, c; .* takes a, b, c, d$"):
    plugins.call(needs, key="k", arguments=dict(b=1))


def takes(*, a: int, b: float = 1.0, c: str = "x"):
  return a, b, c


def test_a_signature_is_a_schema():
  assert plugins.call(takes, key="k", arguments=dict(a=2)) == (2, 1.0, "x")
  assert plugins.call(takes, key="k", arguments=dict(a=2, b=3)) == (2, 3, "x")
  for arguments, match in (
    ({}, "k = {}: missing: a; .* takes a, b, c"),
    (dict(a=1, d=2), "k.d = 2: unknown: .* takes a, b, c"),
    (dict(a=1.5), "k.a = 1.5: must be a whole number"),
    (dict(a=True), "k.a = True: must be a whole number"),
    (dict(a=1, b="1"), "k.b = '1': must be a number"),
    (dict(a=1, c=2), "k.c = 2: must be text"),
  ):
    with pytest.raises(ConfigError, match=match):
      plugins.call(takes, key="k", arguments=arguments)


def perhaps(*, a: "int | None", b: "bool" = True, c: "plugins.No" = 1, d: "5 | 6" = 1):
  return a, b


def test_annotations_that_are_text_are_types_and_none_is_one_of_them():
  assert plugins.call(perhaps, key="k", arguments=dict(a=None)) == (None, True)
  for arguments, match in (
    (dict(a="x"), "k.a = 'x': must be a whole number or None"),
    (dict(a=1, b=1, c=2, d=3), "k.b = 1: must be True or False"),
  ):
    with pytest.raises(ConfigError, match=match):
      plugins.call(perhaps, key="k", arguments=arguments)
