"""The layer rule: a file imports its own layer, without cycles, or lower ones."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
  {"types", "plugins"},
  {"config", "checks"},
  {"core"},
  {"data", "models", "optim"},
  {"training", "evals", "report", "layout", "algorithms"},
  {"experiment"},
  {"plan", "use", "needs"},
  {"run"},
  {"api", "measure", "sweep", "testing"},
  {"main"},
  {"__main__"},
]
FILES = sorted((ROOT / "kdjax").rglob("*.py"))


def module(path):
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(name):
  room = name.split(".")[1]
  return next(i for i, rooms in enumerate(LAYERS) if room in rooms)


NAMES = {module(p) for p in FILES}


def statements(tree):
  """All nodes of a file but those that only a type checker reads."""
  for node in ast.iter_child_nodes(tree):
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
      continue
    yield node
    yield from statements(node)


def imports(path):
  """Modules of kdjax that a file imports, wherever in the file it does."""
  found = set()
  for node in statements(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {a.name for a in node.names}
    elif isinstance(node, ast.ImportFrom):
      whole = {f"{node.module}.{a.name}" for a in node.names}
      found |= (whole & NAMES) or {node.module}
  return {n for n in found if n in NAMES and n != "kdjax"}


GRAPH = {module(p): imports(p) for p in FILES if module(p) != "kdjax"}


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_imports_point_down(name):
  above = {n for n in GRAPH[name] if layer(n) > layer(name)}
  assert not above


def test_no_cycles():
  done, path = set(), []

  def visit(name):
    assert name not in path, f"cycle: {path[path.index(name) :]}"
    if name in done:
      return
    path.append(name)
    for other in GRAPH.get(name, ()):
      visit(other)
    path.pop()
    done.add(name)

  for name in GRAPH:
    visit(name)


def test_no_method_imports_another_but_separate():
  """A method is a file, or a folder of files that import each other."""
  for name, others in GRAPH.items():
    if name.startswith("kdjax.algorithms."):
      own = ".".join(name.split(".")[:3])
      strangers = {o for o in others if o.startswith("kdjax.algorithms.")}
      strangers = {o for o in strangers if o != own and not o.startswith(f"{own}.")}
      assert strangers <= {"kdjax.algorithms.separate"}, name


def test_the_loop_names_no_method():
  methods = {p.stem for p in (ROOT / "kdjax" / "algorithms").glob("*")} - {
    "__init__",
    "__pycache__",
  }
  code = ast.unparse(ast.parse((ROOT / "kdjax" / "training" / "loop.py").read_text()))
  assert len(methods) >= 4 and not methods & set(re.findall(r"\w+", code))


def test_one_place_takes_gradients():
  takers = [
    p.name for p in FILES if "value_and_grad(" in p.read_text() or "jax.grad(" in p.read_text()
  ]
  assert takers == ["gradients.py"]


def test_nothing_is_unpickled_or_evaluated():
  """Data and checkpoints cannot bring code with them."""
  for path in FILES:
    for node in ast.walk(ast.parse(path.read_text())):
      names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
      assert "pickle" not in names, path
      if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        assert node.func.id not in ("eval", "exec"), path
