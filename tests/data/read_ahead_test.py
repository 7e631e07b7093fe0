"""Reading ahead: every image once, in pieces that say nothing about who reads them."""

import dataclasses
import multiprocessing
import os
import pickle
import signal

import cloudpickle
import ensembles
import numpy as np
import pytest

from kdjax.data import feed, read_ahead
from kdjax.training import inputs, schedule
from kdjax.training.stepper import Stepper
from kdjax.types import Drawn


@dataclasses.dataclass(eq=False)
class Counting:
  """Reads from an array and notes what it was asked for."""

  array: np.ndarray
  asked: list = dataclasses.field(default_factory=list)

  def __call__(self, index):
    self.asked.append(np.asarray(index).tolist())
    return self.array[index]


def streamed(method, **changes):
  """(an experiment whose images are read, the experiment with the same images in memory)."""
  source, shards = ensembles.data()
  read = dataclasses.replace(source.train, array=None, read=Counting(source.train.array))
  c = ensembles.config(method, dtype="float32", steps=6, **changes)
  both = (source._replace(train=read), shards), (source, shards)
  return tuple(ensembles.build(c, data_=data) for data in both)


def dispatches(e, step=0):
  """What the loop runs from a position on, one call at a time."""
  return list(Stepper(e).dispatches(step))


def batches(e, step=0, read=None):
  """Every step's batch, its images read in pieces."""
  plan, totals = dispatches(e, step), schedule.totals(e.visits)
  pieces = inputs.pieces(e, plan, totals)
  parts = iter([pieces(n) for n in range(len(pieces))] if read is None else read(pieces))
  out = []
  for visit, i, n in plan:
    images = pieces.reader(visit.number, parts)
    out.append(inputs.inputs(e, visit, i, n, totals[visit.number], images=images)[0])
  assert next(parts, None) is None
  return out


def halves(batch):
  return [h for side in (batch.private, batch.public) for h in side or () if h is not None]


@pytest.mark.parametrize("method", ["mhd pool", "mhd fresh", "fedmd", "fedgkt async", "async edge"])
@pytest.mark.parametrize("size", [64, 3])
def test_pieces_are_the_images_of_the_batches(method, size, monkeypatch):
  monkeypatch.setattr(read_ahead, "PIECE", size)
  e, resident = streamed(method)
  found, array = batches(e), resident.data.source.train.array
  assert any(halves(b) for b in found)
  for batch in found:
    for half in halves(batch):
      np.testing.assert_array_equal(half.image, array[half.index])
  assert max(map(len, e.data.source.train.read.asked)) <= size
  for batch, rest in zip(batches(e, step=3), found[-len(dispatches(e, 3)) :], strict=True):
    for half, other in zip(halves(batch), halves(rest), strict=True):
      np.testing.assert_array_equal(half.image, other.image)


def test_a_public_batch_that_clients_share_is_read_once():
  e, _ = streamed("mhd fresh")
  read = e.data.source.train.read
  (batch, *_) = batches(e)
  private, public = read.asked[:2]
  assert len(public) == e.env.training.public_batch  # of 4 clients
  assert len(private) == len(set(private)) == 4 * e.env.training.batch
  assert batch.public[0].index.shape == (1, 4, e.env.training.public_batch)


def test_examples_are_read_once_and_only_where_they_are_needed():
  index = np.array([[5, 3, 5], [3, 9, 9], [1, 1, 1]])
  half = Drawn(index, None, None, None)
  array = np.arange(20, dtype=np.uint8).reshape(10, 2, 1, 1)
  read = Counting(array)
  needed = np.array([[True] * 3, [True, True, False], [False] * 3])
  sets = {"private": ensembles.ExampleSet(np.arange(10), np.arange(10), (2, 1, 1), None, read)}
  (image,) = (
    h.image
    for h in feed.with_images(
      {"private": half},
      sets,
      lambda _: needed,
      feed.read_now(lambda name, index: sets[name].fetch(index)),
    ).values()
  )
  assert read.asked == [[3, 5, 9]]
  np.testing.assert_array_equal(image, array[index] * needed[..., None, None, None])


def test_images_of_sets_in_memory_are_not_read():
  """Public images lie in memory, private ones do not: only these are read ahead."""
  source, shards = ensembles.data()
  read = Counting(source.train.array)
  private = dataclasses.replace(source.train, array=None, read=read)
  e = ensembles.build(ensembles.config("mhd fresh", dtype="float32", steps=2))
  data = e.data._replace(source=source._replace(train=private))
  e = dataclasses.replace(e, data=data)
  for batch in batches(e):
    assert batch.public[0].image is None
    np.testing.assert_array_equal(
      batch.private[0].image, source.train.array[batch.private[0].index]
    )
  assert len(read.asked) == 2


@pytest.mark.parametrize("method", ["mhd pool", "fedgkt async", "async edge"])
def test_what_workers_receive_is_small_and_holds_nothing_of_the_device(method):
  e, _ = streamed(method)
  pieces = inputs.pieces(e, dispatches(e), schedule.totals(e.visits))
  data = pickle.dumps(pieces)
  held = e.data.source.train.read.array.nbytes
  assert b"jax" not in data.replace(b"kdjax", b"") and len(data) < held + 20_000
  copy = pickle.loads(data)
  for n in range(len(pieces)):
    np.testing.assert_array_equal(copy(n)[0], pieces(n)[0])
  assert pickle.loads(cloudpickle.dumps(pieces))(0)[0].shape[1:] == ensembles.IMAGE


def test_threads_and_processes_give_the_same_pieces(monkeypatch):
  """Of 64 public examples of a step at most 24 are different: many pieces are empty."""
  monkeypatch.setattr(read_ahead, "PIECE", 1)
  e, _ = streamed("mhd pool", public_batch=16)
  plan, totals = dispatches(e), schedule.totals(e.visits)
  pieces = inputs.pieces(e, plan, totals)
  right = [pieces(n)[0] for n in range(len(pieces))]
  assert min(map(len, right)) == 0
  for workers in (0, 2):
    with read_ahead.reading(pieces, workers=workers, ahead=2) as parts:
      np.testing.assert_array_equal(next(parts)[0], right[0])
      for child in multiprocessing.active_children():  # as a Ctrl-C does
        os.kill(child.pid, signal.SIGINT)
      for (one, _), other in zip(parts, right[1:], strict=True):
        np.testing.assert_array_equal(one, other)
  assert not multiprocessing.active_children()
