"""MHD on ImageNet with mixed architectures: three ResNet-18 clients and one ResNet-34.

Zhmoginov et al., CVPR 2023, Section 4.5: four clients, 500 random primary labels each, 240,000
steps. Shared accuracy: ResNet-34 68.6 %, ResNet-18 66.7 % on average. s = 100 and four auxiliary
heads, as in the paper's other runs, are our reading. Not run by us.

  python -m kdjax.main --config=configs/mhd_imagenet_mixed.py --workdir=...

The paper's baselines:
  four ResNet-18 (66.0 %)             configs/mhd_imagenet_mixed.py:network=resnet18
  FedAvg of them, u = 200 (67.7 %)    configs/mhd_imagenet_mixed.py:fedavg
  everyone isolated (R-34: 39.4 %)    configs/mhd_imagenet_mixed.py:separate
"""

from kdjax.configs import common, mhd_imagenet


def get_config(words=""):
  """The main ImageNet experiment with half the clients, twice the labels and other networks."""
  c = mhd_imagenet.get_config()
  ((_, model, arguments),) = c.clients
  networks = {f"resnet{depth}": (model, dict(arguments, depth=depth)) for depth in (18, 34)}
  c.clients = ((3, *networks["resnet18"]), (1, *networks["resnet34"]))
  c.labels = 500
  c.steps = 240_000
  c.algo.pool_size = 4
  c.baselines.fedavg.clients = common.network(c, networks["resnet18"])
  return common.crossed(c, words, networks)
