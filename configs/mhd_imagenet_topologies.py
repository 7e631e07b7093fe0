"""MHD on ImageNet over a sparse graph: four ResNet-34 clients, 250 random primary labels each.

Zhmoginov et al., CVPR 2023, Section 4.4 and Fig. 6: three auxiliary heads, s = 100, 120,000 steps;
the graph is a cycle, islands of two, or complete. The text gives no number. At the end a head is
tuned on every client's frozen embeddings, as in the blue lines of Fig. 6, on 10,000 private images.
Not run by us.

  python -m kdjax.main --config=configs/mhd_imagenet_topologies.py --workdir=... \\
      --config.graph.kind=islands
"""

from kdjax.configs import common, mhd_imagenet


def get_config(words=""):
  """The main ImageNet experiment with half the clients and another graph."""
  c = mhd_imagenet.get_config()
  ((_, model, arguments),) = c.clients
  c.clients = ((4, model, arguments),)
  c.steps = 120_000
  c.graph.kind = "cycle"
  c.algo.aux_heads = 3
  c.algo.pool_size = 4
  return common.crossed(c, f"probe,{words}")
