"""Tables of configuration keys, from the comments that stand beside them in the code."""

import ast
import importlib
import io
import sys
import tokenize
from typing import NamedTuple

from links import ROOT

BASE = "configs/common.py"  # whose `base()` has every top-level key


class Row(NamedTuple):
  """One key."""

  key: str
  value: str  # its default, as code; '' where there is none
  comment: str
  heading: str = ""  # of the group that begins with it


def table(words):
  """The Markdown that stands for `<!-- table: words -->`: 'config' or 'hyper METHOD'."""
  kind, *rest = words.split()
  if kind == "hyper":
    try:
      return "\n".join(markdown(hyper(*rest)))
    except FileNotFoundError:  # TODO: away when every method has its Hyper
      place = rest[0] + (".method" if (ROOT / "kdjax/algorithms" / rest[0]).is_dir() else "")
      return f"::: kdjax.algorithms.{place}.make\n    options:\n      heading_level: 3\n"
  return "\n".join(markdown(config()))


def markdown(rows):
  """Lines of Markdown: a table for every group of rows."""
  for i, row in enumerate(rows):
    title, colon, rest = row.heading.partition(": ")
    if title:
      yield f"\n## {title}\n" + (f"\n{rest[0].upper()}{rest[1:]}.\n" if colon else "")
    if title or i == 0:
      yield "| key | default | |\n| --- | --- | --- |"
    value, comment = (text.replace("|", "\\|") for text in (row.value, row.comment))
    yield f"| `{row.key}` | {f'`{value}`' if value else ''} | {comment} |"


def config():
  """Every key of a config: values as `base()` returns them, comments as they stand beside it."""
  sys.path.insert(0, str(ROOT))
  values = importlib.import_module("configs.common").base().to_dict()
  source = (ROOT / BASE).read_text()
  notes, tree = comments(source), ast.parse(source)
  (base,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "base")
  rows = []
  for node in base.body:
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    if isinstance(target, ast.Attribute):
      comment, heading = around(notes, source, node)
      rows += config_rows(target.attr, values[target.attr], node.value, notes, comment, heading)
  return rows


def config_rows(key, value, node, notes, comment, heading):
  """The rows of a top-level key: one, or where it is a group one for each of its keys."""
  if not (isinstance(value, dict) and value):
    return [Row(key, literal(value), comment, heading)]
  written = {k.arg: k.value.end_lineno for k in getattr(node, "keywords", ())}
  one_line = node.lineno == node.end_lineno
  rows = [Row(key, "", comment, heading)]
  for name in [*(k for k in written if k in value), *(k for k in value if k not in written)]:
    said = "" if one_line else notes.get(written.get(name), ("", False))[0]
    rows.append(Row(f"{key}.{name}", literal(value[name]), said))
  return rows


def hyper(method):
  """The hyper-parameters of a method: the fields of its `Hyper`, with their comments."""
  places = (f"{method}.py", f"{method}/method.py", f"{method}/hyper.py")
  for place in places:
    path = ROOT / "kdjax" / "algorithms" / place
    source = path.read_text() if path.exists() else ""
    for node in ast.parse(source).body:
      if isinstance(node, ast.ClassDef) and node.name == "Hyper":
        return list(fields(source, node))
  raise FileNotFoundError(f"no class Hyper in {', '.join(places)} of kdjax/algorithms")


def fields(source, node):
  """The rows of a dataclass."""
  notes = comments(source)
  for field in node.body:
    if isinstance(field, ast.AnnAssign):
      default = ast.unparse(field.value) if field.value else ""
      comment, heading = around(notes, source, field)
      yield Row(field.target.id, default, comment, heading)


def comments(source):
  """{line: (comment, whether it has the line to itself)}."""
  found = {}
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT:
      text = token.string.lstrip("# ")
      if not text.startswith("fmt:"):
        found[token.start[0]] = (text, token.line.strip().startswith("#"))
  return found


def around(notes, source, node):
  """(comment of a statement, heading of the group that it begins).

  The comment stands behind it or, in lines of its own, right above it. The first such line after
  an empty one is the heading of a group.
  """
  lines, line = source.splitlines(), node.lineno - 1
  above = []
  while notes.get(line, ("", False))[1]:
    above.insert(0, notes[line][0])
    line -= 1
  heading = above.pop(0) if above and not lines[line - 1].strip() else ""
  behind = [notes[n][0] for n in {node.lineno, node.end_lineno} if n in notes]
  return " ".join([*above, *behind]), heading


def literal(value):
  """A value as one writes it in a config."""
  if isinstance(value, dict):
    return "dict(" + ", ".join(f"{k}={literal(v)}" for k, v in value.items()) + ")"
  return repr(value)
