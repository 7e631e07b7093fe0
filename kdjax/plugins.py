"""Finds what a config names (methods, models, sources, evaluators) and checks their arguments.

A name has one of two forms. 'mlp' or 'split_cnn:Edge' names one of kdjax's own, a file in a folder
of the package, with an object in it if the file holds several. 'package.module:name' names a user's
own. Its module is looked for on Python's path, then in the working directory and in the config's
folder.
"""

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdjax.types import ConfigError, Method


def find(name: str, *, package: str, key: str, default: str) -> Any:
  """The object that a config names.

  Args:
    name: a name in one of the forms above.
    package: the package of kdjax's own, such as 'kdjax.evals'.
    key: the config key that holds the name.
    default: the object in a file of the package, if the name does not give one.

  Raises:
    ConfigError: if there is no such object; says where it was looked for, and which ones exist.
  """
  module_name, colon, attribute = str(name).partition(":")
  own = built_in(package)
  hint = f"one of {', '.join(own)}, or your own 'package.module:name'"
  if module_name in own:
    module = importlib.import_module(f"{package}.{module_name}")
    return _attribute(module, attribute or default, key=key, name=name)
  if not colon and "." in module_name:
    raise ConfigError(key, name, f"write '{module_name}:{default}', or the name of your object")
  if not colon:
    near = difflib.get_close_matches(module_name, own, n=1)
    if near:
      hint = f"did you mean {near[0]!r}? {hint}"
    elif _is_yours(module_name):
      whole = f"{module_name}:{default}"
      hint = f"for your {module_name}.py write {whole!r}, or what it is called there"
    raise ConfigError(key, name, hint)
  return find_yours(name, key=key, hint=hint)


def find_yours(name: str, *, key: str, hint: str) -> Any:
  """The object that 'package.module:name' names; errors inside the module are not caught.

  Raises:
    ConfigError: if there is no such module, or no such name in it; `hint` says what else could be
      given.
  """
  module_name, _, attribute = str(name).partition(":")
  if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
    raise ConfigError(key, name, hint)
  look_in(Path.cwd())
  try:
    module = importlib.import_module(module_name)
  except ModuleNotFoundError as error:
    if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
      raise  # a module that it needs
    where = ", ".join(dict.fromkeys(map(str, (Path.cwd(), *_yours))))
    looked = f"no module {module_name!r} among the installed ones nor in {where}"
    raise ConfigError(key, name, f"{looked}; {hint}") from None
  return _attribute(module, attribute, key=key, name=name)


def _attribute(module, attribute, *, key, name):
  if not hasattr(module, attribute):
    place = f"{module.__name__} ({getattr(module, '__file__', None)})"
    raise ConfigError(key, name, f"{place} defines no {attribute!r}")
  return getattr(module, attribute)


def built_in(package: str) -> list[str]:
  """The names of kdjax's own in one of its packages, without the files that they share."""
  module = importlib.import_module(package)
  shared = getattr(module, "SHARED", ())
  return sorted(m.name for m in pkgutil.iter_modules(module.__path__) if m.name not in shared)


_yours: list[Path] = []  # the folders of `look_in`


def _is_yours(module_name):
  return any((Path(folder) / f"{module_name}.py").is_file() for folder in (Path.cwd(), *_yours))


def look_in(folder: str | Path) -> None:
  """From now on modules are looked for in this folder too, after all others."""
  if Path(folder) not in _yours:
    _yours.append(Path(folder))
  if str(folder) not in sys.path:
    sys.path.append(str(folder))


def find_method(name: str) -> Method:
  """The Method that `config.algorithm` names: METHOD in kdjax.algorithms, or your own.

  Raises:
    ConfigError: if there is no such Method.
  """
  found = find(name, package="kdjax.algorithms", key="algorithm", default="METHOD")
  if not isinstance(found, Method):
    hint = "must name a value of kdjax.types.Method"
    if isinstance(found, type):
      hint += f", such as METHOD = Method(Hyper, make): {name!r} is a class"
    raise ConfigError("algorithm", name, hint)
  if not isinstance(found.hyper, type) or not dataclasses.is_dataclass(found.hyper):
    hint = "its hyper must be a dataclass: @dataclasses.dataclass(frozen=True, kw_only=True)"
    raise ConfigError("algorithm", name, hint)
  for part in ("make", "heads", "stack"):
    if not callable(getattr(found, part)):
      raise ConfigError("algorithm", name, f"its {part} must be a function")
  return found


def call(fn: Callable, *positional: Any, key: str, arguments: dict[str, Any]) -> Any:
  """Calls `fn(*positional, **arguments)` after `accept` has checked the arguments."""
  accept(fn, key=key, arguments=arguments)
  return fn(*positional, **arguments)


def accept(fn: Callable, *, key: str, arguments: dict[str, Any]) -> None:
  """Checks arguments against a signature's keywords, or a dataclass's fields: their schema.

  Raises:
    ConfigError: for an argument that is unknown or not of its annotation's type, or for missing
      arguments.
  """
  signature = inspect.signature(fn).parameters
  every = dataclasses.is_dataclass(fn)  # of a function, positional ones are not the config's
  known = {p.name: p for p in signature.values() if every or p.kind is p.KEYWORD_ONLY}
  takes = "takes " + (", ".join(known) or "no arguments")
  for name, value in arguments.items():
    if name not in known:
      near = difflib.get_close_matches(name, known, n=1)
      guess = f"did you mean {near[0]}? " if near else "unknown: "
      raise ConfigError(f"{key}.{name}", value, f"{guess}{fn.__module__} {takes}")
    hint = wrong_type(value, _annotation(fn, known[name]))
    if hint:
      raise ConfigError(f"{key}.{name}", value, hint)
  needed = [name for name, p in known.items() if p.default is inspect.Parameter.empty]
  missing = [name for name in needed if name not in arguments]
  if missing:
    raise ConfigError(key, arguments, f"missing: {', '.join(missing)}; {fn.__module__} {takes}")


def _annotation(fn, parameter):
  """A parameter's annotation, evaluated if it is a string."""
  text = parameter.annotation
  if not isinstance(text, str):
    return text
  try:
    holder = types.SimpleNamespace(__annotations__={"": text})
    return typing.get_type_hints(holder, vars(sys.modules[fn.__module__]))[""]
  except Exception:  # it may name a module that only a type checker imports
    return text


def wrong_type(value: Any, kind: Any) -> str | None:
  """The hint for a value that is not of a type, see `fits`; None if it is."""
  return None if fits(value, kind) else f"must be {_words(kind)}"


NAMES = {bool: "True or False", str: "text", int: "a whole number", float: "a number"}
NAMES |= {tuple: "a tuple", dict: "a group of keys", types.NoneType: "None"}


def fits(value: Any, kind: Any) -> bool:
  """Whether a value is of a type that a config can hold; True for all other annotations.

  A config can hold bool, int, float, str, tuple, dict, `tuple[int, ...]`, `tuple[str, dict]`,
  `Sequence[float]` and unions. A whole number is a float, and a list is a tuple.
  """
  origin, inner = typing.get_origin(kind), typing.get_args(kind)
  if origin in (typing.Union, types.UnionType):
    return any(fits(value, member) for member in inner)
  if kind is types.NoneType:
    return value is None
  if kind in (int, float):
    return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
  if kind in (bool, str, dict):
    return isinstance(value, kind)
  if kind is not tuple and origin not in (tuple, Sequence):
    return True
  if not isinstance(value, list | tuple):
    return False
  if origin is Sequence or Ellipsis in inner:
    return all(fits(item, inner[0]) for item in value)
  return not inner or (len(value) == len(inner) and all(map(fits, value, inner)))


def _words(kind):
  """A type that `fits` knows, in words."""
  origin, inner = typing.get_origin(kind), typing.get_args(kind)
  if origin in (typing.Union, types.UnionType):
    return " or ".join(map(_words, inner))
  if origin is Sequence or Ellipsis in inner:
    return f"a tuple, each {_words(inner[0])}"
  if inner:
    return "(" + ", ".join(map(_words, inner)) + ")"
  return NAMES[kind]
