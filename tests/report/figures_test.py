"""The figures: whose colours can be told apart, and what their axes and bands show."""

import itertools

import numpy as np
import pytest
from report_test import evaluation, summary, two_clients, write_run

from kdjax.report import curve_figures, page, style, table
from kdjax.training import writer

# How three kinds of colour blindness see linear RGB (Machado, Oliveira and Fernandes 2009).
BLIND = {
  "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
  "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
  "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
# OKLab (Ottosson 2020): linear RGB to cones, their cube roots to lightness and two opponents.
CONES = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
OKLAB = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]


def linear(colours):
  """Hexadecimal colours as linear RGB, f64[N, 3]."""
  s = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours]) / 255
  return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


def least_difference(rgb):
  """The least distance in OKLab of any two colours."""
  lab = np.cbrt(np.clip(rgb @ np.transpose(CONES), 0, None)) @ np.transpose(OKLAB)
  return min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))


def contrast(colours, paper):
  """WCAG's contrast of each colour on a background."""
  light, ground = (linear(x) @ [0.2126, 0.7152, 0.0722] + 0.05 for x in (colours, [paper]))
  return np.maximum(light, ground) / np.minimum(light, ground)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_ten_colours_are_told_apart_by_all_eyes(mode):
  dark = [style.DARK[c] for c in style.PALETTE]
  colours = dark if mode == "dark" else style.PALETTE
  rgb = linear(colours)
  assert len(set(colours)) == 10
  for matrix in (np.eye(3), *map(np.array, BLIND.values())):
    assert least_difference(np.clip(rgb @ matrix.T, 0, 1)) > 0.08
  paper = style.DARK[style.PAPER] if mode == "dark" else style.PAPER
  assert contrast(colours, paper).min() > 2.2


def test_bands_end_at_what_an_accuracy_can_be(tmp_path):
  with writer.Writer(tmp_path, resume_step=None) as out:
    for step in (1, 2):
      line = {"shared_accuracy/main": 0.9, "shared_accuracy/main/std": 0.95}
      out.write(step, "eval", line)
  figure = curve_figures.shared(table.read_runs(tmp_path))
  band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
  assert band.min() == 0 and band.max() == 1


def two_rhythms(folder, steps):
  """A run of 300 steps, and a baseline that counts others."""
  write_run(folder, finished=summary([two_clients()], algorithm="mhd", bytes_sent={}))
  beside = summary([two_clients()], algorithm="fedgkt", bytes_sent={}) | {"steps": steps}
  write_run(folder / "fedgkt", finished=beside, curves=False)
  with writer.Writer(folder / "fedgkt", resume_step=None) as out:
    out.write(steps // 2, "eval", evaluation(0.1, 0.2))
    out.write(steps, "eval", evaluation(0.3, 0.4))
  return table.read_runs(folder)


def test_methods_of_different_rhythms_are_drawn_over_their_own_runs(tmp_path):
  group = two_rhythms(tmp_path, 12_500)
  axes = curve_figures.methods_shared(group).axes[0]
  lines = {line.get_label().split()[0]: line.get_xdata() for line in axes.lines}
  np.testing.assert_allclose(lines["fedgkt"], [0.5, 1])
  np.testing.assert_allclose(lines["mhd"], [100 / 2000, 200 / 2000, 300 / 2000])
  assert axes.get_xlabel() == "share of each method's own run"
  said = page.write_report(tmp_path).read_text()
  assert "each is drawn over the share of its own run" in said


def test_methods_of_one_rhythm_are_drawn_over_steps(tmp_path):
  group = two_rhythms(tmp_path, 2_000)
  axes = curve_figures.methods_shared(group).axes[0]
  assert axes.get_xlabel() == "training step"
  assert [list(line.get_xdata()) for line in axes.lines][0] == [1000, 2000]


def test_the_key_is_in_the_order_of_the_last_values(tmp_path):
  figure = curve_figures.methods_shared(two_rhythms(tmp_path, 2_000))
  texts = [text.get_text() for text in figure.legends[0].get_texts()]
  assert texts == ["mhd aux1 75.0", "mhd main 60.0", "fedgkt aux1 40.0"]


def test_without_baselines_there_is_nothing_beside(tmp_path):
  write_run(tmp_path, finished=summary([two_clients()], algorithm="mhd", bytes_sent={}))
  group = table.read_runs(tmp_path)
  assert curve_figures.methods_shared(group) is None and curve_figures.methods(group) is None


def test_an_svg_follows_the_reader_s_colours_and_names_in_a_page_are_its_own(tmp_path):
  path = tmp_path / "name.svg"
  figure = style.figure(2, 1)
  figure.subplots().plot([0, 1], [0, 1], color=style.PALETTE[0])
  style.save(figure, tmp_path / "name")
  text = path.read_text()
  assert "prefers-color-scheme:dark" in text
  rule = f'[style*="stroke: {style.PALETTE[0]}"]{{stroke:{style.DARK[style.PALETTE[0]]}!important}}'
  assert rule in text and f"stroke: {style.PALETTE[0]}" in text.partition("</style>")[2]
  inside = style.inline(path)
  assert inside.startswith('<svg role="img" viewBox=') and "metadata" not in inside
  names = [part.partition('"')[0] for part in inside.split(' id="')[1:]]
  assert names and all(name.startswith("name-") for name in names)


def test_losses_that_were_logged_once_can_be_seen(tmp_path):
  """A line of one point is invisible: the figure was empty."""
  with writer.Writer(tmp_path, resume_step=None) as out:
    out.write(100, "train", {"loss": 6.2, "cross_entropy": 0.5})
  figure = curve_figures.losses(table.read_runs(tmp_path))
  lines = figure.axes[0].get_lines()
  assert [line.get_marker() for line in lines] == ["o", "o"]
