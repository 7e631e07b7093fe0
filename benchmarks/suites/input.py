"""Suite `input`: reading images, and what is left of it where they are resident."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import options as sides
from benchmarks import tables
from benchmarks.contest import Contest
from benchmarks.contestants import reading

TITLE = "input: images per second and core, and the share of a step"
NOTE = """\
*JPEGs*: images of 500 x 375, quality 90, decoded, resized until they cover 256 x 256 and cropped;
every process is held to one core and reads batches of 32 that the operating system's cache holds.
The first row is the same in a plain loop, without kdjax; the last one is all that a run of one
client does to make its batches: indices, Grain's threads, shared reading, assembly. *Prepared
copies* are of the same images, by `python -m kdjax.data.prepare`. *Resident*: images are in memory
already, so that a step's input is indices; its second row makes them and puts them on the device,
and *time / first* is the share of the step that this would take were nothing of it overlapped."""
COLUMNS = (tables.TIME, tables.RATIO, tables.IMAGES, tables.RESIDENT)
WIDTH, HEIGHT, SIZE = 500, 375, 256
OCTAVES = (4, 16, 64, 250)  # cells across, each finer and fainter


def contests(options):
  """JPEGs from a folder by either decoder, prepared copies, and resident images."""
  images, steps = (40, 1) if options.quick else (256, 24)
  with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    spec = dict(images=images, size=SIZE, steps=steps, folder=f"{root}/photographs")
    for label in "ab":
      write_photographs(root / "photographs" / "train" / label, images // 2)
    for decoder in ("pillow", "opencv"):
      if options.wants(f"JPEGs, {decoder}"):
        loop = reader("a plain loop", spec | {"what": decoder})
        own = spec | ours(f"folder:{root}/photographs", decoder)
        ahead = reader("kdjax, read ahead as in a run", own | {"what": "ahead"})
        yield Contest(f"JPEGs, {decoder}", (loop, reader("kdjax, folder", own), ahead))
    if options.wants("prepared copies"):
      forms = ("raw", "jpeg")
      for form in forms:
        prepare(root, form)
      rows = [reader(f"kdjax, {f}", spec | ours(f"records:{root}/{f}", "pillow")) for f in forms]
      yield Contest("prepared copies", tuple(rows))
  model = "cnn" if options.quick else "resnet20"
  for K in options.K((8,)):
    name = f"resident, {model}, K = {K}"
    if options.wants(name):
      spec = dict(model=model, clients=K, batch=32, algorithm="separate", form="fused")
      step = sides.step("step", spec | {"steps": 2})
      alone = sides.own("its input alone", "reading", spec | {"what": "resident", "steps": 20})
      yield Contest(name, (step, alone))


def reader(name, spec):
  """A contestant that reads batches."""
  return sides.own(name, "reading", spec, images=reading.BATCH)


def ours(source, decoder):
  """What kdjax is told to read."""
  return {"what": "source", "source": source, "decoder": decoder}


def prepare(root, form):
  """A resized copy of the photographs, in ROOT/FORM."""
  command = [sys.executable, "-m", "kdjax.data.prepare", f"folder:{root}/photographs"]
  command += [f"--out={root / form}", f"--size={SIZE}", f"--format={form}", "--train-only"]
  subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write_photographs(folder, n):
  """n JPEGs of coloured clouds: like photographs, smooth at large and noisy at small."""
  folder.mkdir(parents=True)
  rng = np.random.default_rng(0)
  for i in range(n):
    Image.fromarray(photograph(rng)).save(folder / f"{i:04}.jpg", quality=90)


def photograph(rng):
  """u8[HEIGHT, WIDTH, 3]: random values on grids of several finenesses, added up."""
  total = np.zeros((HEIGHT, WIDTH, 3))
  for level, cells in enumerate(OCTAVES):
    grid = rng.integers(256, size=(cells * HEIGHT // WIDTH, cells, 3), dtype=np.uint8)
    layer = Image.fromarray(grid).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    total += np.asarray(layer) / 2 ** (level + 1)
  return total.clip(0, 255).astype(np.uint8)
