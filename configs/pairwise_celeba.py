"""Pairwise transfer on CelebA: smiling or not, three equal random parts without overlap.

Goldstein et al., 2020, Table 1: after 25 epochs local 97 %, remote 91 %, combined 93 %. Not run by
us: it needs the images, sorted by the attribute `Smiling` and the official partition into folders

  celeba/train/not_smiling/*.jpg  celeba/train/smiling/*.jpg  celeba/test/...

  python -m kdjax.main --config=configs/pairwise_celeba.py --workdir=runs/pairwise_celeba

Readings: images are 64 x 64. The parts are equal and random, as "without overlap" says, so no
client holds 5 % of everything. All parts have the same classes, and the paper does not define local
and remote for them; `accuracy` is each client's on the whole test set. The authors' code
(celebA_multi_agent.ipynb, commit 65badee of orpgol/decentralized_models) uses whole images, batches
of 32, rates of 1e-4 and a pre-trained ResNet-50. It takes the first 31.7 and the next 31.7 % of the
test set's size for two parts and all the rest for the third, and tests every client on the whole
test set. For its rewriting of the classifier see pairwise_cifar10.py.
"""

from kdjax.configs import common, pairwise_cifar10, pairwise_digits


def get_config(words=""):
  """The networks and the mesh of pairwise_cifar10.py on faces."""
  c = pairwise_cifar10.get_config()
  c.source = "folder:celeba"
  c.source_info.update(train=162_770, test=19_962, image=(64, 64, 3), classes=2, resize=True)
  pairwise_digits.as_long(c, epoch=424)
  c.public_share = 0.0
  c.partition, c.overlay = "equal", dict(share=0.0, clients=())
  c.primary, c.primary_labels = "random", ()
  c.augment = dict(kind="crop_flip", padding=4, flip=True)
  c.normalise = dict(mean=(0.5,), std=(0.5,))
  c.evals = dict(accuracy=dict(every=0, batch=500))
  return common.crossed(c, words)
