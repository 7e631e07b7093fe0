"""Finds a data set in the folder that `--data` names."""

from pathlib import Path

FORMS = {  # name: pairs (file or folder to look for, its source); the first one that exists counts
  "fashion_mnist": (("fashion_mnist.npz", "npz:{}"), ("fashion_mnist", "idx:{}")),
  "mnist": (("mnist.npz", "npz:{}"), ("mnist", "idx:{}")),
  "letter": (("letter.npz", "npz:{}"), ("letter/letter.npz", "npz:{}")),
  "cifar10": (("cifar10.npz", "npz:{}"), ("cifar-10-batches-bin", "cifar:{}")),
  "cifar100": (("cifar100.npz", "npz:{}"), ("cifar-100-binary", "cifar:{}")),
  "cifar100_coarse": (("cifar-100-binary", "cifar:{}?label=coarse"),),  # superclasses
  "cinic10": (("cinic10.npz", "npz:{}"), ("CINIC-10", "folder:{}")),
  "tiny_imagenet": (("tiny_imagenet.npz", "npz:{}"), ("tiny-imagenet-200", "folder:{}")),
  "celeba": (("celeba.npz", "npz:{}"),),
}
TFDS = {"imagenet": "imagenet2012"}  # data sets that only TFDS prepares


def source(name: str, folder: Path | None) -> str | None:
  """The config's `source` of a data set in a folder, 'npz:FILE'; None if the set is missing."""
  if folder is None:
    return None
  if name in TFDS:
    return f"tfds:{TFDS[name]}" if (folder / TFDS[name]).is_dir() else None
  for place, form in FORMS[name]:
    if (folder / place).exists():
      return form.format((folder / place).resolve())
  return None
