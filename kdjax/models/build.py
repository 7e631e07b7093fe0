"""From a model's name and arguments, as a config spells them, to a Flax module."""

import difflib
import inspect
import numbers
from typing import Any

import numpy as np
from flax import linen as nn

from kdjax.models.layers import DTYPES, NORMS
from kdjax.plugins import find
from kdjax.types import ConfigError, ModelOut

COMMON = ("norm", "dtype", "project")  # of config.model, for all models
GIVEN = ("classes", "heads", "axes")  # by kdjax, not by a config
LEAST = {"classes": 2, "heads": 1, "project": 0}
DEEPEST = 200  # the most numbers in a tuple, one per layer
WIDEST = 1_000_000  # the most units of a layer


def build_model(
  name: str, *, classes: int, heads: int, shared: dict[str, Any] | None = None, **arguments: Any
) -> nn.Module:
  """A model that maps (images f32[B, h, w, c], train, mask) to `kdjax.types.ModelOut`.

  Args:
    name: a file of kdjax/models ('mlp', 'resnet', ...) for its `Model`, with a class for another
      model in it ('split_cnn:Edge'); or your own, 'package.module:Net'.
    classes: C, at least 2.
    heads: H, at least 1.
    shared: `config.model`; a network of your own takes those that it has fields for.
    **arguments: the model's other fields, at least all without a default. A field annotated with a
      type takes only that type, `tuple[int, ...]` only positive integers. A field in the model's
      `choices` takes only the values listed there.

  Raises:
    ConfigError: no such model, or an unknown, missing or wrong argument.
  """
  model = find(name, package="kdjax.models", key="clients", default="Model")
  fields = dict(inspect.signature(model).parameters)
  all_fields = model.__module__.startswith("kdjax.models.")  # one that lacks any is a mistake
  given = {key: value for key, value in (shared or {}).items() if all_fields or key in fields}
  arguments = {"classes": classes, "heads": heads} | given | arguments
  for own in ("parent", "name"):  # Flax's, not the model's
    fields.pop(own, None)
  accepted = f"{name} takes " + ", ".join(str(f) for key, f in fields.items() if key not in GIVEN)
  for key, value in arguments.items():
    if key not in fields:
      near = difflib.get_close_matches(key, fields, n=1)
      guess = f"did you mean {near[0]}? " if near else ""
      raise ConfigError("clients", {key: value}, f"{guess}no argument of {name}; {accepted}")
  for key, field in fields.items():
    if key not in arguments and field.default is field.empty:
      at, value = (f"model.{key}", None) if key in COMMON else ("clients", {key: None})
      raise ConfigError(at, value, f"{key} is missing; {accepted}")
  choices = {"norm": NORMS, "dtype": DTYPES} | getattr(model, "choices", {})
  values = {}
  for key, value in arguments.items():
    values[key] = tuple(value) if isinstance(value, list) else value
    hint = _wrong(key, values[key], fields[key].annotation, choices.get(key))
    if hint:
      at, blamed = (f"model.{key}", value) if key in COMMON else ("clients", {key: value})
      raise ConfigError(at, blamed, f"{key} is {hint}; {accepted}")
  return model(**values)


def check_reads(name: str, model: nn.Module, shape: tuple[int, ...]) -> None:
  """Refuses a network of kdjax that reads images where examples are rows of a table.

  Args:
    name: as the config spells the model.
    model: what `build_model` returned.
    shape: of an example, (h, w, c) or (F,).

  Raises:
    ConfigError: for a model of kdjax without `tables`, where an example is a row of features.
  """
  kdjaxs_own = type(model).__module__.startswith("kdjax.models.")
  if len(shape) == 1 and kdjaxs_own and not getattr(model, "tables", False):
    hint = f"mlp, or your own: {name} reads images, not rows of {shape[0]} features"
    raise ConfigError("clients", name, hint)


def check_takes(name: str, model: nn.Module) -> None:
  """Refuses a network that cannot be called with (images, train, mask), as a step does.

  Args:
    name: as the config spells the model.
    model: what `build_model` returned.

  Raises:
    ConfigError: names the argument that does not fit.
  """
  for given in ({"train": False}, {"train": True, "mask": None}):
    try:
      inspect.signature(model).bind(None, **given)
    except TypeError as error:
      hint = f"write its __call__(self, images, train, mask=None): {error}"
      raise ConfigError("clients", name, hint) from None


def check_returns(name: str, out: Any, *, n: int, heads: int, classes: int) -> None:
  """Refuses a network that does not return a ModelOut of the right shapes.

  Args:
    name: as the config spells the model.
    out: the network's output for n images, or its shapes.
    n, heads, classes: N, H and C.

  Raises:
    ConfigError: describes the output.
  """
  shapes = tuple(map(np.shape, out[:2])) if isinstance(out, ModelOut) else ()
  if shapes and len(shapes[0]) == 2 and shapes[0][0] == n and shapes[1] == (n, heads, classes):
    return
  if shapes:
    returned = f"embedding {list(shapes[0])} and logits {list(shapes[1])}"
  else:
    returned = f"one array {list(out.shape)}" if hasattr(out, "shape") else type(out).__name__
  hint = (
    "must return kdjax.types.ModelOut(embedding [N, F], logits [N, H, C], features), as a network "
    f"that ends in kdjax.models.heads.Heads does; for N = {n} images, H = {heads} heads and "
    f"C = {classes} classes it returns {returned}"
  )
  raise ConfigError("clients", name, hint)


def _wrong(key, value, kind, choices):
  """A description of right values if the value is wrong, else None."""
  if kind == tuple[int, ...]:
    if not (isinstance(value, tuple) and value and all(_is(v, int) and v > 0 for v in value)):
      return "a tuple of positive integers"
    if len(value) > DEEPEST or max(value) > WIDEST:
      return f"at most {DEEPEST} numbers, none above {WIDEST:,}"
  elif isinstance(kind, type) and kind is not inspect.Parameter.empty and not _is(value, kind):
    return f"of type {kind.__name__}"
  if choices is not None and value not in choices:
    return f"one of {choices}"
  if key in LEAST and value < LEAST[key]:
    return f"at least {LEAST[key]}"
  if kind is int and value > WIDEST:
    return f"at most {WIDEST:,}"
  return None


def _is(value, kind):
  """Whether a value is of a type; a bool is not a number, and an integer counts as a float."""
  if isinstance(value, bool):
    return kind is bool
  return isinstance(value, {int: numbers.Integral, float: numbers.Real}.get(kind, kind))
