"""The hyper-parameters of MHD, and the checks of their values and combinations."""

import dataclasses

from kdjax.core import losses, snapshots
from kdjax.core.env import Env
from kdjax.core.ranges import at_least, one_of
from kdjax.types import ConfigError

EXCHANGES = ("pool", "fresh", "published")
POOL_STARTS = ("empty", "first")
SPEAK_IN = ("evaluation", "training", "mixed")
TARGETS = ("confident", "random", "all")
MOST_TRACED = 100  # heads, or teachers
MOST_SNAPSHOTS = 100_000  # in a pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of MHD; defaults are the paper's values."""

  aux_heads: int  # m, auxiliary heads
  nu_emb: float  # weight of the embeddings' distance, Eq. 2
  nu_aux: float = 3.0  # weight of the auxiliary heads' distillation, Eqs. 3 to 5
  exchange: str = "pool"  # how predictions reach a student: pool, fresh or published
  teachers: int = 1  # Delta, teachers drawn per step
  pool_size: int  # N_P, snapshots in a pool; in the published exchange, a client's own snapshots
  refresh_every: int  # S_P, training batches between two refreshes of the pool
  # The content of the slots before a refresh fills them: nothing (empty; a client whose slots are
  # all empty takes no distillation loss), or the teachers' untrained first weights (first).
  pool_start: str
  # The mode in which the candidates of Eq. 4 predict: all in evaluation mode; all in training mode,
  # with the statistics of the public batch; or mixed, teachers in evaluation mode and the client
  # itself in training mode.
  speak_in: str
  publish: int = 0  # snapshots per client to keep under pool/CLIENT/STEP of the run folder; 0: none
  top_k: int = 0  # class probabilities per message, where predictions are sent; 0: all
  target: str = "confident"  # which candidate teaches: the most confident, random, or all (Eq. 3)
  include_self: bool = True  # whether a client is among its own candidates
  confidence: str = "max"  # Lambda: max, entropy or margin
  skip_confident: bool = False  # the paper's "ignoring poor distillation targets"
  rho: str = "square"  # of the embeddings' distance: square or pseudo_huber
  public_statistics: bool = False  # whether the public pass also updates BatchNorm's statistics

  def __post_init__(self):
    """Raises ConfigError for invalid values that do not depend on the ensemble."""
    one_of(EXCHANGES, exchange=self.exchange)
    one_of(TARGETS, target=self.target)
    one_of(losses.CONFIDENCES, confidence=self.confidence)
    one_of(losses.RHOS, rho=self.rho)
    one_of(POOL_STARTS, pool_start=self.pool_start)
    one_of(SPEAK_IN, speak_in=self.speak_in)
    at_least(0, aux_heads=self.aux_heads, nu_emb=self.nu_emb, nu_aux=self.nu_aux)
    at_least(0, pool_size=self.pool_size, refresh_every=self.refresh_every)
    at_least(0, publish=self.publish, top_k=self.top_k)
    at_least(1, teachers=self.teachers)
    for key in ("aux_heads", "teachers"):
      count = getattr(self, key)
      if count > MOST_TRACED:
        hint = f"at most {MOST_TRACED}: each is compiled by itself, some {count / 5:,.0f} s in all"
        raise ConfigError(f"algo.{key}", count, hint)

  @property
  def predicts(self) -> bool:
    """Whether auxiliary heads learn from teachers' predictions."""
    return self.nu_aux > 0 and self.aux_heads > 0

  @property
  def embeds(self) -> bool:
    """Whether embeddings are distilled."""
    return self.nu_emb > 0

  @property
  def gated(self) -> bool:
    """Whether confidences are compared."""
    return self.predicts and (self.target == "confident" or self.skip_confident)


def check(env: Env, hyper: Hyper) -> None:
  """Raises ConfigError for invalid values and combinations of values."""
  _check_sizes(env, hyper)
  _check_top_k(env, hyper)
  _check_combinations(hyper)
  if hyper.embeds and len({c.width for c in env.ensemble}) > 1:
    widths = tuple(c.width for c in env.ensemble)
    _refuse(hyper, "nu_emb", f"widths {widths} differ: set model.project, or algo.nu_emb=0")
  if not env.training.public_batch:
    raise ConfigError("public_batch", 0, "must be at least 1 for distillation")
  if not env.task.public_sizes.min():
    hint = "leaves no public example: distillation needs some"
    raise ConfigError("public_share", env.task.public_share, hint)


def _refuse(hyper, key, hint):
  raise ConfigError(f"algo.{key}", getattr(hyper, key), hint)


def _check_sizes(env, hyper):
  pool = hyper.exchange == "pool"
  published = hyper.exchange == "published"
  if hyper.pool_size > MOST_SNAPSHOTS:
    size = hyper.pool_size * int(snapshots.nbytes(env).sum()) / 2**30
    _refuse(hyper, "pool_size", f"at most {MOST_SNAPSHOTS:,}: the pools would need {size:,.0f} GiB")
  if hyper.publish and not pool:
    hint = "snapshots a client to keep: above 0 with exchange='pool' only"
    _refuse(hyper, "publish", hint)
  if pool and hyper.pool_size < hyper.teachers:
    drawn = f"algo.teachers = {hyper.teachers}, which are drawn without replacement"
    _refuse(hyper, "pool_size", f"must be at least {drawn}")
  if published and hyper.pool_size < 1:
    _refuse(hyper, "pool_size", "must be at least 1")
  if (pool or published) and hyper.refresh_every < 1:
    _refuse(hyper, "refresh_every", "must be at least 1")
  if not pool and hyper.teachers > env.K:
    _refuse(hyper, "teachers", f"must be at most {env.K}, the clients")


def _check_top_k(env, hyper):
  if hyper.exchange == "pool" and hyper.top_k:
    hint = "must be 0 with exchange='pool', which sends checkpoints and no predictions"
    _refuse(hyper, "top_k", hint)
  if not 0 <= hyper.top_k <= env.task.classes:
    _refuse(hyper, "top_k", f"must lie in 0..{env.task.classes}, the classes")
  fewest = {"margin": 2, "entropy": env.task.classes}.get(hyper.confidence, 1)
  if hyper.gated and 0 < hyper.top_k < fewest:
    least = f"with confidence={hyper.confidence!r} must be 0 or at least {fewest}"
    _refuse(hyper, "top_k", f"{least}, or teachers look surer than they are")


def _check_combinations(hyper):
  if hyper.skip_confident and hyper.target == "all":
    _refuse(hyper, "skip_confident", "must be False with target='all', where no target is chosen")
  if hyper.exchange == "fresh" and hyper.speak_in == "training" and hyper.public_statistics:
    hint = "must be False with algo.speak_in='training': the public pass comes before the private"
    _refuse(hyper, "public_statistics", hint)
