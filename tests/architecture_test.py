"""The layer rule: a file imports its own layer, without cycles, or lower ones."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
  {"types", "arguments"},
  {"core"},
  {"data", "models", "optim", "schedule"},
  {
    "algorithms",
    "evals",
    "checkpoint",
    "clock",
    "pending",
    "writer",
    "table",
    "plots",
    "canvas",
    "method_plots",
    "report",
    "seeds",
    "layout",
    "tally",
    "folder",
    "start",
  },
  {"experiment", "program", "valid"},
  {"loop", "plan", "use"},
  {"main", "bench"},
]
FILES = sorted((ROOT / "kdjax").rglob("*.py"))


def module(path):
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(name):
  room = name.split(".")[1]
  return next(i for i, rooms in enumerate(LAYERS) if room in rooms)


NAMES = {module(p) for p in FILES}


def imports(path):
  """Modules of kdjax that a file imports, wherever in the file it does."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
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


def test_algorithms_import_no_other_algorithm_but_separate():
  methods = {n: others for n, others in GRAPH.items() if n.startswith("kdjax.algorithms.")}
  for name, others in methods.items():
    strangers = {o for o in others if o.startswith("kdjax.algorithms.")}
    assert strangers <= {"kdjax.algorithms.separate"}, name


def test_the_loop_names_no_method():
  methods = {p.stem for p in (ROOT / "kdjax" / "algorithms").glob("*.py")} - {"__init__"}
  code = ast.unparse(ast.parse((ROOT / "kdjax" / "loop.py").read_text()))
  assert len(methods) >= 4 and not methods & set(re.findall(r"\w+", code))


def test_one_place_takes_gradients():
  takers = [
    p.name for p in FILES if "value_and_grad(" in p.read_text() or "jax.grad(" in p.read_text()
  ]
  assert takers == ["plain.py", "descend.py"]  # the first is what one writes without kdjax


def test_nothing_is_unpickled_or_evaluated():
  """Data and checkpoints cannot bring code with them."""
  for path in FILES:
    for node in ast.walk(ast.parse(path.read_text())):
      names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
      assert "pickle" not in names, path
      if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        assert node.func.id not in ("eval", "exec"), path
