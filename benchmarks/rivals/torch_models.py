"""The benchmark's networks in PyTorch, layer for layer those of kdjax."""

import torch
from torch import nn
from torch.nn import functional as F


def conv(inside, outside, kernel, stride):
  """A convolution without bias, padded by half its kernel."""
  return nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)


class PadShortcut(nn.Module):
  """Every stride-th pixel, the new channels zero."""

  def __init__(self, new, stride):
    super().__init__()
    self.new, self.stride = new, stride

  def forward(self, x):
    """[N, c, h, w] -> [N, c + new, h / stride, w / stride]."""
    return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))


class Block(nn.Module):
  """Two 3x3 convolutions and a shortcut."""

  def __init__(self, inside, width, stride, project):
    super().__init__()
    self.conv1, self.norm1 = conv(inside, width, 3, stride), nn.BatchNorm2d(width)
    self.conv2, self.norm2 = conv(width, width, 3, 1), nn.BatchNorm2d(width)
    self.shortcut = nn.Identity()
    if inside != width or stride > 1:
      projection = nn.Sequential(conv(inside, width, 1, stride), nn.BatchNorm2d(width))
      self.shortcut = projection if project else PadShortcut(width - inside, stride)

  def forward(self, x):
    """[N, c, h, w] -> [N, width, h / stride, w / stride]."""
    y = F.relu(self.norm1(self.conv1(x)))
    return F.relu(self.shortcut(x) + self.norm2(self.conv2(y)))


class Network(nn.Module):
  """A body, the mean over pixels, and linear heads."""

  def __init__(self, body, width, classes, heads):
    super().__init__()
    self.body = body
    self.heads = nn.ModuleList(nn.Linear(width, classes) for _ in range(heads))

  def forward(self, x):
    """[N, c, h, w] -> (embedding [N, F], logits [N, H, C]), f32."""
    x = self.body(x)
    x = (x.mean((2, 3)) if x.ndim == 4 else x).float()
    with torch.autocast(x.device.type, enabled=False):
      return x, torch.stack([head(x) for head in self.heads], 1)


def stages(counts, widths, inside, project):
  """The blocks of a residual network; all stages but the first halve the image."""
  for i, (count, width) in enumerate(zip(counts, widths, strict=True)):
    for j in range(count):
      yield Block(inside, width, 2 if i and not j else 1, project)
      inside = width


def mlp(heads):
  """28x28x1, 128 hidden units, 10 classes."""
  body = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU())
  return Network(body, 128, 10, heads)


def cnn(heads):
  """8x8x1, widths 16 and 32, 10 classes."""
  layers = []
  for inside, width, stride in ((1, 16, 1), (16, 32, 2)):
    layers += [conv(inside, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU()]
  return Network(nn.Sequential(*layers), 32, 10, heads)


def resnet20(heads):
  """32x32x3, widths 16, 32, 64, shortcuts without parameters, 10 classes."""
  stem = [conv(3, 16, 3, 1), nn.BatchNorm2d(16), nn.ReLU()]
  body = nn.Sequential(*stem, *stages((3, 3, 3), (16, 32, 64), 16, project=False))
  return Network(body, 64, 10, heads)


def resnet18(heads):
  """32x32x3, 3x3 stem, 10 classes."""
  stem = [conv(3, 64, 3, 1), nn.BatchNorm2d(64), nn.ReLU()]
  body = nn.Sequential(*stem, *stages((2, 2, 2, 2), (64, 128, 256, 512), 64, project=True))
  return Network(body, 512, 10, heads)


def resnet34(heads):
  """224x224x3, 7x7 stem and max-pool, 1000 classes."""
  stem = [conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
  body = nn.Sequential(*stem, *stages((3, 4, 6, 3), (64, 128, 256, 512), 64, project=True))
  return Network(body, 512, 1000, heads)


def simple_cnn():
  """pfl's network for CIFAR-10, 32x32x3 to 10 classes; 1,626,442 parameters, Xavier weights."""
  layers = nn.Sequential(
    nn.Conv2d(3, 32, 3),
    nn.ReLU(),
    nn.Conv2d(32, 64, 3),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Dropout(0.25),
    nn.Flatten(),
    nn.Linear(14 * 14 * 64, 128),
    nn.ReLU(),
    nn.Dropout(0.5),
    nn.Linear(128, 10),
  )
  for layer in layers:
    if isinstance(layer, nn.Conv2d | nn.Linear):
      nn.init.xavier_uniform_(layer.weight)
  return layers


MODELS = {  # name: (constructor, image [c, h, w], classes)
  "mlp": (mlp, (1, 28, 28), 10),
  "cnn": (cnn, (1, 8, 8), 10),
  "resnet20": (resnet20, (3, 32, 32), 10),
  "resnet18": (resnet18, (3, 32, 32), 10),
  "resnet34": (resnet34, (3, 224, 224), 1000),
}
