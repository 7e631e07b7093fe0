"""Equations: LaTeX between dollars, as MathML."""

import html as entities
import re

from latex2mathml.converter import convert

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def write(html, complain):
  """A page with its equations as MathML.

  Args:
    html: with what pymdownx.arithmatex leaves of them.
    complain: called with a message for each that is no LaTeX.
  """

  def swap(match):
    tag, text = match.group(1), entities.unescape(match.group(2)).strip()
    try:
      mathml = convert(text, display="block" if tag == "div" else "inline")
    except Exception as error:  # whatever it dislikes is a mistake on the page
      complain(f"{text!r} is no equation: {error!r}")
      return match.group(0)
    if "\\" in mathml:
      complain(f"{text!r} has a command that is not known")
    return f'<{tag} class="equation">{mathml}</{tag}>'

  return EQUATION.sub(swap, html)
