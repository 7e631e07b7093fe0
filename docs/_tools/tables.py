"""Tables of configuration keys, from the comments that stand beside them in the code."""

import ast
import importlib
import io
import re
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
  rows = config() if kind == "config" else hyper(*rest)
  return '<div class="keys" markdown>\n' + "\n".join(markdown(rows)) + "\n\n</div>"


def markdown(rows):
  """Lines of Markdown: a table for every group of rows."""
  for i, row in enumerate(rows):
    title, *rest = re.split("[:;] ", row.heading, maxsplit=1)
    if title:
      yield f"\n## {title}\n" + "".join(f"\n{x[0].upper()}{x[1:]}.\n" for x in rest)
    if title or i == 0:
      yield "| key | default | what it is |\n| --- | --- | --- |"
    value, comment = (text.replace("|", "\\|") for text in (row.value, row.comment))
    code = value and not value.startswith("(required")
    yield f"| `{row.key}` | {f'`{value}`' if code else value} | {comment} |"


def config():
  """Every key of a config: values as `base()` returns them, comments as they stand beside it.

  A comment above a key that follows an empty line begins a group: its first line is the heading.
  """
  sys.path.insert(0, str(ROOT))
  values = importlib.import_module("configs.common").base().to_dict()
  source = (ROOT / BASE).read_text()
  notes, tree, lines = comments(source), ast.parse(source), source.splitlines()
  (base,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "base")
  rows = []
  for node in base.body:
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    if isinstance(target, ast.Attribute):
      above, behind = around(notes, node)
      begins = not lines[node.lineno - len(above) - 2].strip()
      heading = above.pop(0) if above and begins else ""
      comment = " ".join([*above, *behind])
      rows += config_rows(target.attr, values[target.attr], node.value, notes, comment, heading)
  return rows


def config_rows(key, value, node, notes, comment, heading):
  """The rows of a top-level key: one, or where it is a group one for each of its keys."""
  if not (isinstance(value, dict) and value):
    return [Row(key, literal(value), comment, heading)]
  written = {k.arg: k.value.end_lineno for k in getattr(node, "keywords", ())}
  one_line = node.lineno == node.end_lineno
  rows = [Row(key, "", comment, heading)] if comment else []
  for name in [*(k for k in written if k in value), *(k for k in value if k not in written)]:
    said = "" if one_line else notes.get(written.get(name), ("", False))[0]
    rows.append(Row(f"{key}.{name}", literal(value[name]), said, "" if rows else heading))
  return rows


def hyper(method):
  """The hyper-parameters of a method: the fields of its `Hyper`, with their comments."""
  places = (f"{method}.py", f"{method}/hyper.py")
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
      above, behind = around(notes, field)
      yield Row(field.target.id, default(field.value), " ".join([*above, *behind]))


def default(node):
  """A field's default as one would write it."""
  if node is None:
    return "(required)"
  for keyword in getattr(node, "keywords", ()):
    if keyword.arg == "default_factory":
      return ast.unparse(getattr(keyword.value, "body", keyword.value))
  return ast.unparse(node)


def comments(source):
  """{line: (comment, whether it has the line to itself)}."""
  found = {}
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT:
      text = token.string.lstrip("# ")
      if not text.startswith("fmt:"):
        found[token.start[0]] = (text, token.line.strip().startswith("#"))
  return found


def around(notes, node):
  """The comment lines right above a statement, and the comments behind it."""
  above, line = [], node.lineno - 1
  while notes.get(line, ("", False))[1]:
    above.insert(0, notes[line][0])
    line -= 1
  behind = [notes[n][0] for n in sorted({node.lineno, node.end_lineno}) if n in notes]
  return above, behind


def literal(value):
  """A value as one writes it in a config."""
  if isinstance(value, dict):
    return "dict(" + ", ".join(f"{k}={literal(v)}" for k, v in value.items()) + ")"
  return repr(value)
