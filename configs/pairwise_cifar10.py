"""Pairwise transfer on CIFAR-10: classes 0-2, 3-5, and 6-9 with 5 % of everything; ResNet-18.

Goldstein et al., 2020, Table 1: after 25 epochs client 2 reaches local 95 %, remote 60 %. Not run
by us: meant for an accelerator. Needs the data, as mhd_cifar10.py says.

  python -m kdjax.main --config=configs/pairwise_cifar10.py --workdir=runs/pairwise_cifar10

As in the authors' code of January 2021 (e24c261 of orpgol/decentralized_models), whose notebooks
print the paper's CIFAR-10 tables: torchvision's ResNet-18 at 32 x 32 (the paper says ResNet-50),
SGD with momentum at 0.01, batches of 128. Differences:
  - nothing is pre-trained on ImageNet, unless start.workdir names such a run; all clients start
    from the same weights
  - a layer of 512 units before the classifier is transferred, as in the paper's Fig. 2
  - the learning rate is constant (the code lowers it on plateaus)
  - no client holds a tenth of the training images, on which the offset of the control is chosen
  - maps are trained, as the paper says; in the code they are not. Its later version (65badee):
    --config.algo.variant=as_coded --config.algo.layers="('heads/main',)", with depth=50
  - the 5 % are random, as the paper says; the code takes the first 2,500 images
The rate of the maps is that of Fashion-MNIST, whose epochs are nearly as long; it is untried on
this set. Full mesh and transitive: see pairwise_digits.py.
"""

from kdjax.configs import common, data, pairwise_digits


def get_config(words=""):
  """The clients and the mesh of pairwise_digits.py with the paper's data and the code's network."""
  c = pairwise_digits.get_config()
  c.replicas = 1
  network = dict(depth=18, stem="imagenet", hidden=512)
  c.clients = ((3, "resnet", network),)
  c.model.norm = "batch"
  c.rounds = 25
  pairwise_digits.as_long(c, epoch=151)
  c.compare = ()
  c.batch = 128

  data.cifar10(c)
  c.augment = dict(kind="crop_flip", padding=4, flip=True)
  c.normalise = dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))

  c.algo.layers = ("heads/hidden",)
  c.algo.alpha = c.algo.beta = 0.5
  c.algo.transfer_optim.lr = 1e-5
  c.optim.lr, c.optim.clip, c.optim.weight_decay = 0.01, 0.0, 0.0

  c.save_every = 1_000
  c.evals.accuracy = dict(every=0, batch=500)
  c.evals.confusion = dict(every=0, batch=500)
  c.evals.prior_offset = dict(every=0, batch=500)
  return common.crossed(c, words)
