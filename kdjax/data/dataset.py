"""The data of an experiment: its source, its public set, and who holds what."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from kdjax.core.random import host_rng
from kdjax.data import partition, sources
from kdjax.types import ConfigError, Shards


class Data(NamedTuple):
  """What the clients of all replicas learn from."""

  source: sources.Source
  public: sources.ExampleSet  # the source's own training set, or another source's
  shards: Shards


def open_data(config, seeds):
  """Opens the sources of a config and hands them out.

  Args:
    config: nested dict.
    seeds: of the R replicas.

  Raises:
    ConfigError: see `sources.load` and `partition.partition`.
  """
  return _data(config, functools.partial(_open, config), seeds)


def describe(config, seeds):
  """The same for planning, without the data: `source_info` at its word."""
  return _data(config, _describe, seeds)


def stand_in(config, examples):
  """Shapes alone, for clients that are already trained: as many examples as the run had.

  Args:
    config: nested dict.
    examples: {'private': one number a client, 'public': one a replica}, from `config.json`.
  """
  source, public, first = _sources(config | {"limit": 0, "holdout": 0}, _describe)
  private, shared = (tuple(map(np.arange, examples[half])) for half in ("private", "public"))
  counts = np.zeros((len(private), source.classes), np.int64)
  return _after(first, Data(source, public, Shards(private, shared, ((),) * len(private), counts)))


def _data(config, read, seeds):
  source, public, first = _sources(config, read)
  return _after(first, Data(source, public, _partition(config, source, public, seeds)))


def _open(config, name, info, holdout):
  resident = config["source_resident_bytes"]
  return sources.open_source(name, info=info, holdout=holdout, resident_bytes=resident)


def _describe(name, info, holdout):
  if holdout:
    info = info | {"train": info["train"] - holdout, "test": holdout}
  return sources.describe(name, info=info)


def _sources(config, read):
  """(the private Source, the public ExampleSet, how many classes of its own come first)."""
  source = read(config["source"], config["source_info"], config["holdout"])
  source = source._replace(train=_limited(source.train, config["limit"]))
  if not config["public_source"]:
    return source, source.train, 0
  public = read(config["public_source"], config["public_source_info"], 0)
  if public.train.shape != source.train.shape:
    hint = f"its images are {public.train.shape}, the private ones {source.train.shape}"
    raise ConfigError("public_source", config["public_source"], hint)
  return source, public.train, public.classes if config["public_labels"] else 0


def _after(n, data):
  """The same data, its private classes numbered after n public ones."""
  if not n:
    return data
  source, shards = data.source, data.shards
  shift = lambda s: dataclasses.replace(s, labels=s.labels + n)
  source = source._replace(
    train=shift(source.train), test=shift(source.test), classes=source.classes + n
  )
  shards = dataclasses.replace(
    shards,
    primary=tuple(tuple(label + n for label in labels) for labels in shards.primary),
    label_counts=np.pad(shards.label_counts, ((0, 0), (n, 0))),
  )
  return data._replace(source=source, shards=shards)


def _limited(images, n):
  """n examples of an ExampleSet, drawn by a fixed seed; all of them where n is 0."""
  if not n:
    return images
  if n > len(images.labels):
    raise ConfigError("limit", n, f"there are only {len(images.labels)} training images")
  index = np.sort(host_rng(0, "limit").choice(len(images.labels), n, replace=False))
  return sources.subset(images, index)


def _partition(config, source, public, seeds):
  return partition.partition(
    source.train.labels,
    source.train.strata,
    K=sum(n for n, *_ in config["clients"]),
    classes=source.classes,
    public_share=config["public_share"],
    public_reuse=config["public_reuse"],
    public_separate=len(public.labels) if config["public_source"] else 0,
    kind=config["partition"],
    skew=float(config["skew"]),
    primary=config["primary_labels"] if config["primary"] == "explicit" else config["primary"],
    labels_per_client=config["labels"],
    alpha=config["alpha"],
    counts=config["counts"],
    overlay=config["overlay"],
    batch=config["batch"],
    seeds=seeds,
  )
