"""What MkDocs calls as it builds the site: links to code, tables of keys, equations, pictures."""

import importlib.util
import logging
import re
from pathlib import Path

import equations
import links
import tables
from mkdocs.structure.files import File
from mkdocs.utils import get_relative_url

LOG = logging.getLogger("mkdocs.hooks.kdjax")
TABLE = re.compile(r"<!-- table: (.+?) -->")
PICTURE = re.compile(r"!\[([^\]]*)\]\(((?:\.\./)*img/[\w-]+\.svg)\)")
ZIAMATH = Path(importlib.util.find_spec("ziamath").origin).parent  # for the font that it brings
FONT = ZIAMATH / "fonts" / "STIXTwoMath-Regular.ttf"


def on_files(files, config):
  """Adds a page for every file of the repository that a page links to, and the equations' font."""
  wanted = set()
  for page in files.documentation_pages():
    if page.src_uri.endswith(".md"):
      wanted |= links.linked(page.src_uri, page.content_string)
  for path in sorted(wanted):
    if (links.ROOT / path).is_file():  # what is not there is said where it is linked from
      made = File.generated(config, links.source_uri(path), content=links.source_page(path))
      files.append(made)
  files.append(File.generated(config, f"assets/{FONT.name}", abs_src_path=str(FONT)))
  return files


def on_page_markdown(markdown, page, config, files):
  """Fills in the tables and the pictures, then points the links to code at their lines."""
  if page.file.src_uri.startswith("source/"):
    return markdown
  here = page.file.src_uri
  markdown = TABLE.sub(lambda m: tables.table(m.group(1)), markdown)
  markdown = PICTURE.sub(lambda m: picture(m.group(1), m.group(2)), markdown)
  url = lambda uri: get_relative_url(files.get_file_from_path(uri).url, page.file.url)
  markdown, broken = links.resolve(here, markdown, url)
  for message in broken:
    LOG.warning("%s: %s", here, message)  # --strict ends with an error
  return markdown


def on_page_content(html, page, config, files):
  """Writes equations as MathML, which browsers show without a script."""
  return equations.write(html, lambda text: LOG.warning("%s: %s", page.file.src_uri, text))


def picture(caption, link):
  """A picture as part of the page, so that it follows the page's colours; without its own style."""
  svg = (links.ROOT / "docs" / "img" / Path(link).name).read_text()
  svg = re.sub(r"<style>.*?</style>\s*", "", svg, flags=re.DOTALL)
  svg = re.sub(r"\s*\n\s*", " ", svg).strip()
  return f'<figure class="picture" markdown="0">{svg}<figcaption>{caption}</figcaption></figure>'
