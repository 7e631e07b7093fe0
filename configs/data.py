"""The facts of the data sets: sources, shapes, sizes, pixels. This file is not an experiment."""

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CINIC10_MEAN = (0.4789, 0.4723, 0.4305)
CIFAR100_MEAN = (0.5071, 0.4865, 0.4409)


def digits(c):
  """scikit-learn's handwritten digits: embedded, nothing to download."""
  _source(c, "digits", train=1_437, test=360, image=(8, 8, 1), classes=10)


def fashion_mnist(c):
  """Fashion-MNIST; or the four official files, --config.source=idx:DIR."""
  _source(c, "tfds:fashion_mnist", train=60_000, test=10_000, image=(28, 28, 1), classes=10)


def letter(c):
  """UCI Letter Recognition, from arrays in a file: 16 integer features as images of 4 x 4."""
  _source(c, "npz:letter.npz", train=16_000, test=4_000, image=(4, 4, 1), classes=26)


def cifar10(c):
  """CIFAR-10; or the official binary version, --config.source=cifar:DIR."""
  _source(c, "tfds:cifar10", train=50_000, test=10_000, image=(32, 32, 3), classes=10)
  c.normalise = dict(mean=CIFAR10_MEAN, std=(0.2470, 0.2435, 0.2616))


def cinic10(c):
  """CINIC-10 as unpacked, a folder of PNG files for every class; `valid` is not used."""
  _source(c, "folder:CINIC-10", train=90_000, test=90_000, image=(32, 32, 3), classes=10)
  c.normalise = dict(mean=CINIC10_MEAN, std=(0.2421, 0.2383, 0.2587))


def cifar100(c):
  """CIFAR-100; or the official binary version, --config.source=cifar:DIR."""
  _source(c, "tfds:cifar100", train=50_000, test=10_000, image=(32, 32, 3), classes=100)
  c.normalise = dict(mean=CIFAR100_MEAN, std=(0.2673, 0.2564, 0.2762))


def tiny_imagenet(c):
  """Tiny ImageNet, from arrays in a file."""
  size = dict(train=100_000, test=10_000, image=(64, 64, 3), classes=200)
  _source(c, "npz:tiny_imagenet.npz", **size)
  c.normalise = dict(mean=(0.480, 0.448, 0.398), std=(0.277, 0.269, 0.282))


def imagenet(c):
  """ImageNet, decoded, resized until it covers 256 x 256, and cropped to the centre."""
  size = dict(train=1_281_167, test=50_000, image=(256, 256, 3), classes=1_000)
  _source(c, "tfds:imagenet2012", resize=True, **size)
  c.normalise = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def _source(c, name, *, train, test, image, classes, resize=False):
  c.source = name
  c.source_info.update(train=train, test=test, image=image, classes=classes, resize=resize)
