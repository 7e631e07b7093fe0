"""For the library's pages: comments beside fields are documentation, drawings keep their lines."""

import ast
import re

import griffe
import tables


class FieldComments(griffe.Extension):
  """Gives a class without `Attributes:` a list of its fields, with the comments beside them."""

  def on_class_members(self, *, node, cls, **kwargs):
    """Called for every class, once its members are known."""
    if not isinstance(node, ast.ClassDef) or not cls.docstring:
      return
    notes, lines = tables.comments(cls.filepath.read_text()), []
    for field in node.body:
      if isinstance(field, ast.AnnAssign):
        above, behind = tables.around(notes, field)
        comment = " ".join([*above, *behind]) or "&nbsp;"  # its type stands there anyway
        lines.append(f"  {field.target.id}: {comment.replace('>', chr(92) + '>')}")
    if lines:
      cls.docstring.value += "\n\nAttributes:\n" + "\n".join(lines)

  def on_module_instance(self, *, node, mod, **kwargs):
    """Called for every module: what its docstring indents is a drawing or a formula."""
    if mod.docstring:
      mod.docstring.value = re.sub(r"^  ", "      ", mod.docstring.value, flags=re.MULTILINE)
