"""The data of an experiment: its source, its public set, and who holds what."""

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from kdjax.core.random import host_rng
from kdjax.data import holders, sources
from kdjax.data.example_set import ExampleSet, Source, held_out, hold_out, subset
from kdjax.types import ConfigError, Shards

COMPARED = 16  # examples by which two sets are told apart


class Data(NamedTuple):
  """What the clients of all replicas learn from."""

  source: Source
  public: ExampleSet  # the source's own training set, or another source's
  shards: Shards
  facts: Mapping[str, Any] = MappingProxyType({})  # {a config's key: what it was found to be}


def open_data(config: dict[str, Any], seeds: tuple[int, ...], *, begun: bool = False) -> Data:
  """Opens the sources of a config and hands them out.

  Args:
    config: nested dict.
    seeds: of the R replicas.
    begun: see `sources.open_source`.

  Raises:
    ConfigError: see `sources.open_source` and `holders.hand_out`.
  """
  return _data(config, functools.partial(_open, config, begun=begun), seeds)


def hand_out(config: dict[str, Any], source: Source, seeds: tuple[int, ...]) -> Data:
  """The same for a Source in memory, in place of the one that `source` and `source_info` name.

  Raises:
    ConfigError: without test examples, of `holdout`; see `holders.hand_out`.
  """
  if source.test is source.train and not config["holdout"]:
    raise ConfigError("holdout", config["holdout"], f"above 0: {source.name!r} has no test set")
  return _data(config, functools.partial(_open, config), seeds, source)


def describe(config: dict[str, Any], seeds: tuple[int, ...]) -> Data:
  """The same for planning: `source_info` at its word; a source of which it says less is opened."""
  return _data(config, functools.partial(_describe, config), seeds)


def stand_in(config: dict[str, Any], examples: dict[str, list[int]]) -> Data:
  """Shapes alone, for clients that are already trained: as many examples as the run had.

  Args:
    config: nested dict, from `config.json`.
    examples: {'private': one number a client, 'public': one a replica}, from `config.json`.
  """
  shapes = lambda name, info, holdout: sources.describe(name, info=info)
  source, public, first, _ = _sources(config | {"limit": 0, "holdout": 0}, shapes)
  private, shared = (tuple(map(np.arange, examples[half])) for half in ("private", "public"))
  counts = np.zeros((len(private), source.classes), np.int64)
  return _after(first, Data(source, public, Shards(private, shared, ((),) * len(private), counts)))


def _data(config, read, seeds, given=None):
  source, public, first, facts = _sources(config, read, given)
  if first + source.classes < 2:
    raise ConfigError("source", source.name, "all labels are 0: there must be two classes at least")
  shards = _partition(config, source, public, seeds)
  return _after(first, Data(source, public, shards, facts))


def _open(config, name, info, holdout, begun=False):
  resident = config["source_resident_bytes"]
  return sources.open_source(name, info=info, holdout=holdout, resident_bytes=resident, begun=begun)


def _describe(config, name, info, holdout):
  missing = [key for key in ("train", "image", "classes") if not np.any(info.get(key, 0))]
  if missing:
    try:
      return _open(config, name, info, holdout)
    except ConfigError as error:
      hint = f"{error.hint}\nFor a plan without the data, source_info must say {missing} too"
      raise ConfigError(error.key, error.value, hint) from None
  if holdout:
    apart, tested = held_out(holdout)
    info = info | {"train": info["train"] - apart - tested, "test": tested}
  return sources.describe(name, info=info)


def _sources(config, read, given=None):
  """(the private Source, the public ExampleSet, how many classes of its own come first, facts).

  `given`: a Source in place of the config's.
  """
  holdout, facts = config["holdout"], {}
  if given is None:
    source = read(config["source"], config["source_info"], holdout)
    facts |= {"source_info": _facts(source)}
  else:
    resident = config["source_resident_bytes"]
    source = sources.finished(given, holdout=holdout, resident_bytes=resident)
    facts |= {"source": given.name, "source_info": _facts(given) | _counts(given)}
  source = source._replace(train=_limited(source.train, config["limit"]))
  if not config["public_source"]:
    return source, source.train, 0, facts
  own = given is None and _place(config["public_source"]) == _place(config["source"])
  public = _public(config, read, source.test, own)
  if public.train.shape != source.train.shape:
    hint = f"its examples are {public.train.shape}, the private ones {source.train.shape}"
    raise ConfigError("public_source", config["public_source"], hint)
  facts |= {"public_source_info": _facts(public)}
  return source, public.train, public.classes if config["public_labels"] else 0, facts


def _place(name):
  """A source without its options: which labels are read changes no example."""
  return name.partition("?")[0]


def _public(config, read, test, own):
  """The public Source; errors name its keys, not the private one's.

  Where it is the private one too (`own`), the same examples are held out: what is tested is never
  public.
  """
  name, holdout = config["public_source"], config["holdout"]
  try:
    public = read(name, config["public_source_info"], holdout if own else 0)
  except ConfigError as error:
    if not error.key.startswith("source"):
      raise
    raise ConfigError(f"public_{error.key}", error.value, error.hint) from None
  if holdout and not own and _holds(public.train, test, holdout):
    hint = "holds what `holdout` makes the test set: write it as `source` is written"
    raise ConfigError("public_source", name, hint)
  return public


def _holds(examples, test, holdout):
  """Whether a set is the one of which `test` was held out, as some examples say.

  Labels are not compared: the same examples may have others, as with `?label=`.
  """
  if sum(held_out(holdout)) >= len(examples.labels) or examples.shape != test.shape:
    return False
  out = hold_out(Source("", examples, examples, 0), holdout).test
  if len(out.labels) != len(test.labels):
    return False
  if out.array is None and out.read is None:  # a plan's
    return False
  some = np.arange(min(len(test.labels), COMPARED))
  return np.array_equal(out.fetch(some), test.fetch(some))


def _facts(source):
  return {"image": list(source.train.shape), "classes": source.classes}


def _counts(source):
  """What a source holds itself, as `source_info` says it: `holdout` is taken of that."""
  tested = 0 if source.test is source.train else len(source.test.labels)
  return {"train": len(source.train.labels), "test": tested}


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


def _limited(examples, n):
  """n examples of an ExampleSet, drawn by a fixed seed; all of them where n is 0."""
  if not n:
    return examples
  if n > len(examples.labels):
    raise ConfigError("limit", n, f"there are only {len(examples.labels)} training examples")
  index = np.sort(host_rng(0, "limit").choice(len(examples.labels), n, replace=False))
  return subset(examples, index)


def _partition(config, source, public, seeds):
  split = holders.Split(
    K=sum(n for n, *_ in config["clients"]),
    classes=source.classes,
    public_share=config["public_share"],
    public_reuse=config["public_reuse"],
    public_limit=config["public_limit"],
    public_separate=len(public.labels) if config["public_source"] else 0,
    kind=config["partition"],
    skew=float(config["skew"]),
    primary=config["primary_labels"] if config["primary"] == "explicit" else config["primary"],
    labels_per_client=config["labels"],
    alpha=config["alpha"],
    counts=config["counts"],
    owned=source.train.owned,
    overlay=config["overlay"],
  )
  return holders.hand_out(source.train.labels, source.train.strata, split, seeds)
