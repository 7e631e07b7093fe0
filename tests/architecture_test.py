"""The layer rule: a file imports its own layer, without cycles, or lower ones."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
  {"ending"},
  {"types", "plugins"},
  {"config", "checks", "variants"},
  {"core"},
  {"data", "models", "optim", "peers", "hardware"},
  {"forms"},
  {"training", "evals", "report", "layout", "algorithms"},
  {"experiment"},
  {"plan", "elsewhere", "elsewhere_tables", "use", "needs", "measure", "timing"},
  {"run"},
  {"api", "sweep", "testing"},
  {"reproduce"},
  {"flags"},
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
  assert len(methods) >= 4
  for name in ("loop", "stretch"):
    code = ast.unparse(ast.parse((ROOT / "kdjax" / "training" / f"{name}.py").read_text()))
    assert not methods & set(re.findall(r"\w+", code))


def test_one_place_takes_gradients():
  takers = [
    p.name for p in FILES if "value_and_grad(" in p.read_text() or "jax.grad(" in p.read_text()
  ]
  assert takers == ["gradients.py"]


# Modules that make code of bytes, and calls that do unless they are told not to.
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
UNPICKLERS |= {"yaml", "torch", "jsonpickle"}
LOADERS = {"read_pickle", "to_pickle", "unpickle", "full_load", "unsafe_load", "fromstring"}


def unpickles(tree):
  """What in a file could make code of bytes: names of modules and calls."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (a.name for a in node.names if a.name.partition(".")[0] in UNPICKLERS)
    if isinstance(node, ast.ImportFrom):
      names = {(node.module or "").partition(".")[0], *(a.name for a in node.names)}
      yield from names & (UNPICKLERS | LOADERS)
    if isinstance(node, ast.Call):
      name = ast.unparse(node.func)
      told = {k.arg: ast.unparse(k.value) for k in node.keywords}
      if name in ("eval", "exec", "__import__") or name.rpartition(".")[2] in LOADERS:
        yield name
      if name in ("np.load", "numpy.load", "jnp.load") and told.get("allow_pickle") != "False":
        yield name
      if told.get("allow_pickle", "False") != "False":
        yield name


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_unpickled_or_evaluated(path):
  """Data, checkpoints and messages cannot bring code with them."""
  assert not list(unpickles(ast.parse(path.read_text())))


@pytest.mark.parametrize(
  "code",
  [
    "import pickle",
    "import pickle as p",
    "from pickle import loads",
    "from concurrent import joblib",
    "import torch.serialization",
    "def f():\n  from dill import load",
    "np.load(path)",
    "np.load(path, allow_pickle=True)",
    "np.load(path, allow_pickle=trusted)",
    "np.savez(path, x, allow_pickle=True)",
    "pd.read_pickle(path)",
    "eval(text)",
  ],
)
def test_what_unpickles_would_be_seen(code):
  assert list(unpickles(ast.parse(code)))
