"""Links from the documentation to the lines of the code, checked when the site is built.

A page links to the repository's files by relative path, `[text](../kdjax/core/losses.py#kl)`, so
that the link works where the page is read as a file. In the site, every file that is linked to has
a page of its own, and what stands behind the # is a function or class of it, dotted where nested.
"""

import ast
import functools
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#([\w.]+))?\)")
LANGUAGES = {".py": "python", ".sbatch": "bash", ".sh": "bash", ".yaml": "yaml", ".yml": "yaml"}


class BrokenLink(ValueError):
  """A link to a file, or to something in it, that is not there."""


def target(page, link):
  """The repository's file that a link on a page means; None for a page of the documentation.

  Args:
    page: the page's place in docs/, such as 'methods/mhd.md'.
    link: a relative path.
  """
  path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
  return None if path.startswith("docs/") else path


def linked(page, markdown):
  """The repository's files that a page links to."""
  found = (target(page, link) for _, link, _ in LINK.findall(markdown))
  return {path for path in found if path}


def line_of(path, name):
  """The line of a file at which a function, a class or a constant is defined.

  Raises:
    BrokenLink: for a file or a name that is not there.
  """
  if not (ROOT / path).is_file():
    raise BrokenLink(f"there is no file {path}")
  if not name:
    return None
  lines = definitions(path)
  if name not in lines:
    raise BrokenLink(f"{path} defines no {name}")
  return lines[name]


@functools.cache
def definitions(path):
  """{dotted name: line} of all that a file of Python defines, what is nested included."""
  found = {}

  def walk(node, prefix):
    for child in ast.iter_child_nodes(node):
      inner = prefix
      if isinstance(child, ast.FunctionDef | ast.ClassDef):
        found.setdefault(prefix + child.name, child.lineno)
        inner = f"{prefix}{child.name}."
      for name in assigned(child):
        found.setdefault(prefix + name, child.lineno)
      walk(child, inner)

  walk(ast.parse((ROOT / path).read_text()), "")
  return found


def assigned(node):
  """The names that a statement assigns to."""
  targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
  whole = isinstance(node, ast.Assign | ast.AnnAssign)
  return [t.id for t in targets if isinstance(t, ast.Name)] if whole else []


def source_page(path):
  """The Markdown of a page that shows a file with its line numbers; not found by the search."""
  text = (ROOT / path).read_text()
  language = LANGUAGES.get(Path(path).suffix, "text")
  head = f"---\ntitle: {path}\nsearch: {{exclude: true}}\nhide: [navigation, toc]\n---\n\n"
  return f'{head}# {path}\n\n~~~~~~~~{{.{language} linenums="1"}}\n{text}~~~~~~~~\n'


def source_uri(path):
  """Where a file's page stands among the pages of the site."""
  return f"source/{path}.md"


def resolve(page, markdown, url):
  """A page with its links to the code turned into links within the site.

  Args:
    page: as `target`'s.
    markdown: its text.
    url: source uri -> address, relative to the page.

  Returns:
    (the text, messages of links that are broken).
  """
  broken = []

  def swap(match):
    text, link, name = match.groups()
    path = target(page, link)
    if path is None:
      return match.group(0)
    try:
      line = line_of(path, name)
    except BrokenLink as error:
      broken.append(str(error))
      return text
    anchor = f"#__codelineno-0-{line}" if line else ""
    return f'<a href="{url(source_uri(path))}{anchor}">{text}</a>'

  return LINK.sub(swap, markdown), broken
