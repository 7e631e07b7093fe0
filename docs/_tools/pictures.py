"""Draws the pictures of docs/img: `python docs/_tools/pictures.py`.

They are narrow, so that they can be read on a phone, and take their colours from variables: the
site's own where a page shows them, those of STYLE where a file is looked at by itself.
"""

import math
from pathlib import Path

OUT = Path(__file__).parents[1] / "img"
STYLE = """<style>
svg { --k-ink: #24292f; --k-soft: #6b7280; --k-a: #4051b5; --k-b: #c2410c; --k-c: #0f766e;
  --k-fill: #eef1fb; background: #fff; }
@media (prefers-color-scheme: dark) {
  svg { --k-ink: #e5e7eb; --k-soft: #9ca3af; --k-a: #8c9eff; --k-b: #fb923c; --k-c: #2dd4bf;
    --k-fill: #2a2f45; background: #1e2129; }
}
</style>"""
WIDTH = 480


class Picture:
  """Shapes on a sheet 480 wide."""

  def __init__(self, name, height, title):
    self.name, self.height, self.title = name, height, title
    self.parts = []

  def add(self, tag, text="", style="", **attributes):
    """One element; underscores in names of attributes are hyphens."""
    given = "".join(f' {k.replace("_", "-")}="{_short(v)}"' for k, v in attributes.items())
    style = f' style="{style}"' if style else ""
    self.parts.append(f"<{tag}{given}{style}>{text}</{tag}>" if text else f"<{tag}{given}{style}/>")

  def text(self, x, y, words, colour="ink", size=14, anchor="middle", bold=False):
    """A line of text around x."""
    weight = "; font-weight: 600" if bold else ""
    style = f"fill: var(--k-{colour}); font-size: {size}px{weight}"
    self.add("text", words, style, x=x, y=y, text_anchor=anchor)

  def box(self, x, y, w, h, words="", colour="ink", fill="fill", size=14, dashed=False):
    """A box with a line of text in its middle."""
    dash = "; stroke-dasharray: 4 3" if dashed else ""
    inside = "none" if fill is None else f"var(--k-{fill})"
    style = f"fill: {inside}; stroke: var(--k-{colour}); stroke-width: 1.4{dash}"
    self.add("rect", "", style, x=x, y=y, width=w, height=h, rx=5)
    if words:
      self.text(x + w / 2, y + h / 2 + size * 0.35, words, size=size)

  def node(self, x, y, words, colour="ink", r=14):
    """A client: a circle with its number."""
    style = f"fill: var(--k-fill); stroke: var(--k-{colour}); stroke-width: 1.6"
    self.add("circle", "", style, cx=x, cy=y, r=r)
    self.text(x, y + 5, words)

  def line(self, x1, y1, x2, y2, colour="soft", dashed=False, width=1.6):
    """A line."""
    dash = "; stroke-dasharray: 5 4" if dashed else ""
    style = f"stroke: var(--k-{colour}); stroke-width: {width}{dash}"
    self.add("line", "", style, x1=x1, y1=y1, x2=x2, y2=y2)

  def arrow(self, x1, y1, x2, y2, colour="ink", dashed=False):
    """A line with a head at its second end."""
    angle = math.atan2(y2 - y1, x2 - x1)
    self.line(x1, y1, x2 - 7 * math.cos(angle), y2 - 7 * math.sin(angle), colour, dashed)
    points = [(x2, y2)]
    for side in (-0.42, 0.42):
      points.append((x2 - 10 * math.cos(angle + side), y2 - 10 * math.sin(angle + side)))
    joined = " ".join(f"{_short(x)},{_short(y)}" for x, y in points)
    self.add("polygon", "", f"fill: var(--k-{colour})", points=joined)

  def link(self, a, b, colour="soft", r=15):
    """An arrow between two clients, from rim to rim."""
    (x1, y1), (x2, y2) = a, b
    angle = math.atan2(y2 - y1, x2 - x1)
    dx, dy = r * math.cos(angle), r * math.sin(angle)
    self.arrow(x1 + dx, y1 + dy, x2 - dx, y2 - dy, colour)

  def write(self):
    """Writes the file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}"'
    head += f' role="img" font-family="system-ui, sans-serif">\n<title>{self.title}</title>'
    OUT.mkdir(exist_ok=True)
    text = "\n".join([head, STYLE, *self.parts, "</svg>"]) + "\n"
    (OUT / f"{self.name}.svg").write_text(text)


def _short(value):
  return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def heads():
  """Who teaches which head."""
  p = Picture("heads", 250, "Head k of a student learns from heads k - 1 of its teachers")
  p.text(105, 22, "teacher j", bold=True)
  p.text(375, 22, "student i", bold=True)
  rows = {"main": 45, "aux1": 105, "aux2": 165}
  p.box(10, 45, 80, 152, "backbone", size=13)
  p.box(390, 45, 80, 152, "backbone", size=13)
  for name, y in rows.items():
    p.line(90, y + 16, 115, y + 16)
    p.line(390, y + 16, 365, y + 16)
    p.box(115, y, 66, 32, name, colour="a")
    p.box(299, y, 66, 32, name, colour="a")
  for teacher, student in (("main", "aux1"), ("aux1", "aux2")):
    p.arrow(182, rows[teacher] + 16, 297, rows[student] + 16, "b")
    p.arrow(332, rows[teacher] + 33, 332, rows[student] - 1, "b", dashed=True)
  p.text(240, 40, "private labels", "c", 12)
  p.arrow(282, 50, 297, 57, "c")
  p.text(240, 222, "public examples: the target is whichever", "b", 13)
  p.text(240, 240, "of teachers and self (dashed) is most confident", "b", 13)
  p.write()


def transitive():
  """What head k knows, on a cycle."""
  p = Picture("transitive", 226, "On a cycle, head k knows the data of clients up to k hops away")
  heads = ("main", "aux1", "aux2")
  xs = (100, 210, 320, 430)
  for i, x in enumerate(xs):
    p.node(x, 28, str(i), "a")
    for k, name in enumerate(heads):
      y = 62 + 46 * k
      p.box(x - 45, y, 90, 32)
      data = " ".join(str((i + hop) % 4) for hop in range(k + 1))
      p.text(x, y + 21, data, "b" if k else "ink", 14)
      if i == 0:
        p.text(48, y + 21, name, "soft", 13, anchor="end")
  for x, y in zip(xs, xs[1:], strict=False):
    p.link((x, 28), (y, 28), "ink")
  p.arrow(446, 28, 476, 28, "ink")
  p.text(240, 216, "whose data a head has learnt from; client 3 learns from client 0", "soft", 12)
  p.write()


def graph():
  """The kinds of graph."""
  p = Picture("graph", 330, "Graphs: an arrow points from a student to its teacher")
  ring = [(0, -42), (42, 0), (0, 42), (-42, 0)]
  pairs = [(i, j) for i in range(4) for j in range(4)]
  kinds = {
    "complete": (ring, [(i, j) for i, j in pairs if i != j]),
    "islands": (ring, [(0, 1), (1, 0), (2, 3), (3, 2)]),
    "cycle": (ring, [(0, 1), (1, 2), (2, 3), (3, 0)]),
    "chain": ([(-60, 0), (-20, 0), (20, 0), (60, 0)], [(0, 1), (1, 2), (2, 3)]),
    "star": (
      [(0, 4), (-40, -38), (40, -38), (0, 52)],
      [e for i in (1, 2, 3) for e in ((0, i), (i, 0))],
    ),
    "edges": (ring, [(0, 1), (2, 1), (3, 1), (3, 2)]),
  }
  for number, (name, (places, edges)) in enumerate(kinds.items()):
    x, y = 80 + 160 * (number % 3), 70 + 165 * (number // 3)
    at = [(x + dx, y + dy) for dx, dy in places]
    for i, j in edges:
      p.link(at[i], at[j], r=12)
    for i, (cx, cy) in enumerate(at):
      p.node(cx, cy, str(i), "a", r=12)
    p.text(x, y + 84, name, bold=True)
  p.write()


def pool():
  """The student's pool of snapshots."""
  p = Picture("pool", 255, "A student keeps snapshots of its teachers, and replaces one at times")
  p.text(62, 22, "student i", bold=True)
  p.box(12, 40, 100, 60, "model")
  p.box(12, 150, 100, 40, "public batch", colour="c", size=13)
  p.arrow(62, 149, 62, 102, "c")
  p.text(245, 22, "its pool, P slots", bold=True)
  slots = [("1", 0), ("3", 400), ("2", 200), ("1", 600), ("3", 0)]
  for row, (peer, born) in enumerate(slots):
    drawn = row in (1, 3)
    words, colour = f"client {peer}, at {born}", "b" if drawn else "soft"
    p.box(185, 36 + 34 * row, 120, 28, words, colour, size=12)
    if drawn:
      p.arrow(183, 50 + 34 * row, 114, 60 + 12 * row, "b")
  p.text(420, 22, "teachers", bold=True)
  for i, y in enumerate((55, 105, 155)):
    p.node(420, y, str(i + 1), "a")
  p.arrow(405, 105, 307, 118, "a")
  p.text(95, 226, "every step: D of them teach", "b", 13)
  p.text(345, 226, "every S_P steps: one random slot", "a", 13)
  p.text(345, 243, "gets a fresh snapshot", "a", 13)
  p.write()


def cohorts():
  """Clients, cohorts and replicas."""
  p = Picture("cohorts", 240, "Two cohorts of clients, two replicas side by side")
  for r in range(2):
    y = 60 + 58 * r
    p.text(70, y + 5, f"replica {r}", "soft", 13, anchor="end")
    for i in range(5):
      p.node(110 + 62 * i, y, str(5 * r + i), "b" if i < 2 else "c", r=17)
  p.box(84, 30, 114, 118, colour="b", fill=None, dashed=True)
  p.box(208, 30, 176, 118, colour="c", fill=None, dashed=True)
  p.text(141, 22, "cohort 0: mlp", "b", 13, bold=True)
  p.text(296, 22, "cohort 1: cnn", "c", 13, bold=True)
  p.text(432, 65, "seed 0", "soft", 13)
  p.text(432, 123, "seed 1", "soft", 13)
  p.arrow(141, 150, 141, 176, "b")
  p.arrow(296, 150, 296, 176, "c")
  p.box(74, 180, 134, 32, "leaves [4, ...]", "b", size=13)
  p.box(229, 180, 134, 32, "leaves [6, ...]", "c", size=13)
  p.text(240, 233, "one program each, all in one jitted step", "soft", 13)
  p.write()


def accuracy():
  """Private and shared accuracy of one client, by hand."""
  p = Picture("accuracy", 268, "Private accuracy weighs classes as the client's own data does")
  right, held = [0.9, 0.8, 0.3, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0, 0.0]
  p.text(16, 24, "accuracy within each class", anchor="start", bold=True)
  for c, a in enumerate(right):
    x = 30 + 56 * c
    p.box(x, 130 - 80 * a, 38, 80 * a + 0.5, colour="a")
    p.text(x + 19, 124 - 80 * a, f"{a:.1f}", "soft", 12)
    p.text(x + 19, 148, f"class {c}", "soft", 12)
    p.text(x + 19, 190, f"{held[c]:.1f}", "b", 14)
    p.text(x + 19, 230, "0.2", "c", 14)
  private, shared = sum(a * w for a, w in zip(right, held, strict=True)), sum(right) / 5
  p.line(20, 130, 306, 130, "ink")
  for y, colour, name, value in ((190, "b", "private", private), (230, "c", "shared", shared)):
    p.text(322, y, f"{name} {value:.2f}", colour, 15, anchor="start", bold=True)
  p.text(322, 172, "weights: its own data", "b", 12, anchor="start")
  p.text(322, 212, "weights: all alike", "c", 12, anchor="start")
  p.text(240, 260, "the weighted sum of the accuracies, of one client and one head", "soft", 12)
  p.write()


def cycles():
  """A method is a cycle of phases."""
  p = Picture("cycles", 236, "A prologue, then a cycle of phases that repeats")
  rows = {
    "separate": ([], [("train", "a")]),
    "mhd": ([], [("train, S_P steps", "a"), ("refresh", "soft")]),
    "fedavg": ([], [("train, u steps", "a"), ("average", "soft")]),
    "fedmd": (["private"], [("consensus", "c"), ("digest", "c"), ("revisit", "a")]),
    "fedgkt": ([], [("edge", "a"), ("upload", "soft"), ("server", "c")]),
  }
  for row, (name, (prologue, cycle)) in enumerate(rows.items()):
    x, y = 84, 12 + 38 * row
    p.text(72, y + 20, name, size=13, anchor="end", bold=True)
    for words in prologue:
      p.box(x, y, 66, 30, words, "a", size=12, dashed=True)
      x += 76
    for words, colour in cycle:
      w = 20 + 7.2 * len(words)
      p.box(x, y, w, 30, words, colour, size=12)
      x += w + 8
    p.text(x + 8, y + 21, "\u21ba", "soft", 17)
  p.text(20, 222, "blue: private data", "a", 12, anchor="start")
  p.text(150, 222, "green: public data or a server", "c", 12, anchor="start")
  p.text(348, 222, "grey: no training", "soft", 12, anchor="start")
  p.write()


def main():
  """Draws them all."""
  for draw in (heads, transitive, graph, pool, cohorts, accuracy, cycles):
    draw()


if __name__ == "__main__":
  main()
