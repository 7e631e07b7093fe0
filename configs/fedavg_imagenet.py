"""FedAvg on ImageNet: the upper baseline.

The experiment and the split of mhd_imagenet.py with another method.

Zhmoginov et al., CVPR 2023, Table 1: 68.0 % (s = 100, u = 200). Not run by us.

  python -m kdjax.main --config=configs/fedavg_imagenet.py \\
      --workdir=runs/fedavg_imagenet
"""

from configs import common, mhd_imagenet


def get_config():
  """The experiment of mhd_imagenet.py with another method."""
  return common.with_method(mhd_imagenet.get_config(), "fedavg")
