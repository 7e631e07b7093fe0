"""The documentation says what is there: links to code, tables of keys, pictures, drawings."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import kdjax
from kdjax import experiment, plugins
from kdjax.configs import common, mhd_digits
from kdjax.types import ConfigError

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_tools"))

links, pictures, tables = map(importlib.import_module, ("links", "pictures", "tables"))
PAGES = sorted(p for p in DOCS.rglob("*.md"))
METHODS = sorted(
  p.stem for p in (ROOT / "kdjax" / "algorithms").iterdir() if not p.stem.startswith("__")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_links_to_code_are_there(page):
  _, broken = links.resolve(str(page.relative_to(DOCS)), page.read_text(), lambda uri: uri)
  assert not broken


def test_a_link_leads_to_the_line_of_a_nested_function():
  text = "by [share](../../kdjax/core/clients.py#share) and [page](../concepts.md#graph)"
  made, _ = links.resolve("methods/x.md", text, lambda uri: f"/{uri}")
  line = 1 + (ROOT / "kdjax/core/clients.py").read_text().split("\ndef share(")[0].count("\n") + 1
  address = f"/source/kdjax/core/clients.py.md#__codelineno-0-{line}"
  assert made == f'by <a href="{address}">share</a> and [page](../concepts.md#graph)'
  assert links.line_of("docs/_tools/links.py", "resolve.swap") > links.line_of(
    "docs/_tools/links.py", "resolve"
  )


def test_a_link_to_what_is_gone_is_said():
  text = "[a](../kdjax/core/clients.py#gone) [b](../kdjax/gone.py#a)"
  _, broken = links.resolve("x.md", text, lambda uri: uri)
  said = ["kdjax/core/clients.py defines no gone", "there is no file kdjax/gone.py"]
  assert broken == said


def test_every_key_of_a_config_has_a_row_with_its_value():
  rows = {row.key: row.value for row in tables.config()}
  assert rows["seed"] == "0" and rows["graph.kind"] == "'complete'"
  base = common.base().to_dict()
  for key, value in base.items():
    inner = [f"{key}.{k}" for k in value] if isinstance(value, dict) else []
    assert set(inner or [key]) <= set(rows)


def test_a_group_begins_where_a_comment_follows_an_empty_line():
  headings = {row.heading: row.key for row in tables.config() if row.heading}
  assert headings["Data"] == "source"


@pytest.mark.parametrize("method", METHODS)
def test_every_hyper_parameter_has_its_default_and_a_comment(method):
  rows = {row.key: row for row in tables.hyper(method)}
  fields = dataclasses.fields(plugins.find_method(method).hyper)
  assert list(rows) == [field.name for field in fields]
  for field in fields:
    assert rows[field.name].comment
    plain = field.default is not dataclasses.MISSING
    given = plain or field.default_factory is not dataclasses.MISSING
    assert (rows[field.name].value != "(required)") == given
    if plain:
      assert rows[field.name].value.replace('"', "'") == repr(field.default)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_page_with_its_hyper_parameters(method):
  text = (DOCS / "methods" / f"{method}.md").read_text()
  named = f"<!-- table: hyper {method} -->" in text
  assert named == bool(list(tables.hyper(method)))


def held_elsewhere(text):
  """The repository's files that hold what a page's placeholders stand for."""
  yield from re.findall(r'^--8<-- "(.+)"$', text, re.MULTILINE)
  if "<!-- table: config -->" in text:
    yield "configs/common.py"
  methods = re.findall(r"^<!-- table: hyper (\w+) -->$", text, re.MULTILINE)
  things = [plugins.find_method(name).hyper for name in methods]
  things += map(pkgutil.resolve_name, re.findall(r"^::: (\S+)$", text, re.MULTILINE))
  for thing in things:
    yield str(Path(inspect.getsourcefile(thing)).relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_who_reads_a_page_as_a_file_finds_what_a_placeholder_stands_for(page):
  text = page.read_text()
  assert set(held_elsewhere(text)) <= links.linked(str(page.relative_to(DOCS)), text)


def test_pictures_are_as_their_script_draws_them(tmp_path, monkeypatch):
  monkeypatch.setattr(pictures, "OUT", tmp_path)
  pictures.main()
  drawn = {p.name: p.read_text() for p in tmp_path.iterdir()}
  assert drawn == {p.name: p.read_text() for p in (DOCS / "img").glob("*.svg")}


def test_the_drawing_of_the_rooms_has_every_file():
  drawing = (DOCS / "architecture.md").read_text().split("```")[1]
  words = set(re.findall(r"\w+", drawing))
  files = {p.stem for p in (ROOT / "kdjax").rglob("*.py")}
  folders = {p.name for p in (ROOT / "kdjax").rglob("*") if p.is_dir()}
  inside = {
    p.stem for m in (ROOT / "kdjax" / "algorithms").iterdir() if m.is_dir() for p in m.glob("*.py")
  }
  private = {f for f in files if f.startswith("_")}
  assert not (files - inside - private | folders - {"__pycache__"}) - words


def test_the_citation_is_of_this_version():
  assert f"\nversion: {kdjax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_what_averages_refuses_mixed_clients_as_its_page_quotes():
  c = mhd_digits.get_config("fedavg")
  mlp = ("mlp", dict(hidden=(8,), activation="relu"))
  c.clients = ((2, *mlp), (3, "cnn", dict(widths=(4,))))
  with pytest.raises(ConfigError) as refusal:
    experiment.build(c)
  assert f"kdjax: {refusal.value}\n" in (DOCS / "heterogeneous.md").read_text()
