"""Public functions say what they take: at least four of five arguments are annotated.

`python -m types_test` in this folder prints how many, and the files with the most that are not.
"""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "kdjax"
LEAST = 0.8


def public_functions(body, methods=("__init__", "__call__")):
  """The public functions of a module's body, and of its public classes."""
  for node in body:
    if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
      yield from public_functions(node.body)
    if isinstance(node, ast.FunctionDef) and (node.name[0] != "_" or node.name in methods):
      yield node


def arguments(function):
  """A function's arguments, but for `self` and `cls`."""
  a = function.args
  every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
  return [one for one in every if one.arg not in ("self", "cls")]


def counts():
  """{file: (annotated arguments, arguments)}."""
  out = {}
  for path in sorted(PACKAGE.rglob("*.py")):
    functions = public_functions(ast.parse(path.read_text()).body)
    found = [one.annotation is not None for function in functions for one in arguments(function)]
    out[str(path.relative_to(PACKAGE.parent))] = sum(found), len(found)
  return out


def test_the_counter_counts_what_is_public():
  source = """
def f(a: int, b, *c: int, d: int = 0, **e): pass
def _g(a): pass
class A:
  def __init__(self, a: int): pass
  def h(self, a): pass
  def _i(self, a): pass
class _B:
  def h(self, a): pass
"""
  functions = list(public_functions(ast.parse(source).body))
  assert [f.name for f in functions] == ["f", "__init__", "h"]
  assert [[a.arg for a in arguments(f)] for f in functions] == [list("abdce"), ["a"], ["a"]]


def test_public_arguments_are_annotated():
  annotated, total = map(sum, zip(*counts().values(), strict=True))
  assert annotated / total >= LEAST, f"{annotated} of {total} arguments: {worst(counts())}"


def worst(found):
  """The ten files with the most arguments that are not annotated, one a line."""
  missing = sorted(((n - m, m, n, path) for path, (m, n) in found.items()), reverse=True)
  return "\n".join(f"{path}: {m} of {n}" for gap, m, n, path in missing[:10] if gap)


if __name__ == "__main__":
  annotated, total = map(sum, zip(*counts().values(), strict=True))
  print(f"{annotated} of {total} arguments annotated, {annotated / total:.0%}\n{worst(counts())}")
