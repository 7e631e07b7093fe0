"""What a config names: modules, by file or dotted path, and the arguments of their functions."""

import importlib
import inspect
import pkgutil

from kdjax.types import ConfigError


def find_module(package, name, *, key):
  """The module `package.name`, or that of the dotted path `name`.

  Args:
    package: a package of kdjax, such as 'kdjax.evals'.
    name: what the config says.
    key: where it says so.

  Raises:
    ConfigError: where there is no such module; lists those of the package.
  """
  path = name if "." in name else f"{package}.{name}"
  found = sorted(m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__))
  hint = f"no module {path}: one of {', '.join(found)}, or the dotted path of your own"
  return load_module(path, key=key, value=name, hint=hint)


def find_method(name):
  """The Method that `config.algorithm` names: METHOD of a module of `kdjax.algorithms`, or yours.

  Raises:
    ConfigError: where there is none.
  """
  module = find_module("kdjax.algorithms", name, key="algorithm")
  if not hasattr(module, "METHOD"):
    raise ConfigError("algorithm", name, f"{module.__name__} has no METHOD, a kdjax.types.Method")
  return module.METHOD


def load_module(path, *, key, value, hint):
  """The module at a dotted path.

  Raises:
    ConfigError: (key, value, right) where it does not exist. What goes wrong inside it is not
      caught: a module of it that is missing, say.
  """
  try:
    return importlib.import_module(path)
  except ModuleNotFoundError as error:
    if error.name is None or not f"{path}.".startswith(f"{error.name}."):
      raise
    raise ConfigError(key, value, hint) from None


def call(fn, *positional, key, arguments):
  """`fn(*positional, **arguments)`, once `accept` has found nothing wrong with them."""
  accept(fn, key=key, arguments=arguments)
  return fn(*positional, **arguments)


def accept(fn, *, key, arguments):
  """Checks arguments against a keyword-only signature, which is their schema.

  Raises:
    ConfigError: for an argument that is unknown or missing.
  """
  signature_of = inspect.signature(fn).parameters
  names = [p.name for p in signature_of.values() if p.kind is p.KEYWORD_ONLY]
  hint = "takes " + (", ".join(names) or "no arguments")
  for name in arguments:
    if name not in names:
      raise ConfigError(f"{key}.{name}", arguments[name], f"unknown: {fn.__module__} {hint}")
  for name in names:
    if name not in arguments and signature_of[name].default is inspect.Parameter.empty:
      raise ConfigError(f"{key}.{name}", None, f"missing: {fn.__module__} {hint}")
