"""A project of a user's own: the files that it begins with, and the schema of its option files."""

import json
import shlex
import sys
from pathlib import Path

from raylight.config.rules.json_schema import json_schema
from raylight.errors import ConfigError
from raylight.installation import CHECKOUT
from raylight.storage.atomic import check_output, write_atomically

FILES = {
    "README.md": """\
# My images, my network

Work in this folder; `conf/` and `my_package/` are found here.

```sh
raylight train experiment=mine
raylight train -m experiment=mine model.arguments.width=8,16
raylight train experiment=mine data=folder data.root=PATH
```

- `conf/experiment/mine.yaml`: an experiment, which chooses options and changes settings.
- `conf/model/tiny.yaml`: a model, beside Raylight's; `raylight train --help` lists all that can be chosen.
- `my_package/nets.py`: the network. Losses, metrics, images, ... of your own are named in the same way.
- `conf/schema.json`: what editors complete and check these files by; `raylight schema --out conf/schema.json` renews it.

The last line that training prints is the run's folder. Commands on it run your code where you say so:

```sh
export RAYLIGHT_ALLOWED_TARGETS=my_package
raylight evaluate RUN
```
""",
    ".gitignore": "outputs/\ndatasets/\n__pycache__/\n",
    "conf/experiment/mine.yaml": """\
# @package _global_
# yaml-language-server: $schema=../schema.json
# The network of my_package on the drawn cats and dogs; data=folder data.root=PATH takes your images.
defaults:
  - override /model: tiny
  - override /optimizer: adamw
  - override /scheduler: cosine
  - override /logger: csv
optimizer:
  lr: 3.0e-3
trainer:
  max_epochs: 10
""",
    "conf/model/tiny.yaml": """\
# @package _global_
# yaml-language-server: $schema=../schema.json
# The network in my_package/nets.py; allowed_targets says that its code may be run.
allowed_targets: [my_package]
model:
  name: tiny
  family: own
  _target_: my_package.nets.Tiny
  arguments: {width: 16}
  image_size: 64
""",
    "my_package/__init__.py": "",
    "my_package/nets.py": '''\
"""Networks: modules that give a logit for each class."""

from torch import Tensor, nn


class Tiny(nn.Module):
    """Three convolutions, averages of 16 parts of their last feature map, and a linear layer."""

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.blocks = nn.Sequential(block(3, width), block(width, 2 * width), block(2 * width, 4 * width))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * width, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(images))


def block(inside: int, outside: int) -> nn.Sequential:
    """A convolution that halves height and width."""
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.BatchNorm2d(outside), nn.ReLU())
''',
}
"""Path and content of each file of a new project."""


def init_project(folder: Path) -> int:
    """Write the files of a new project.

    Args:
        folder: which is made where it isn't there.

    Returns:
        The exit code, 0.

    Raises:
        ConfigError: one of the files is there, or the folder can't be written; nothing was written.
    """
    check_output("FOLDER", folder, is_folder=True)
    if CHECKOUT is not None and folder.resolve() == CHECKOUT:
        raise ConfigError([f"FOLDER: {folder.resolve()} is Raylight's own; name another place"])
    files = {**FILES, "conf/schema.json": schema_text()}
    there = [path for path in files if (folder / path).exists()]
    if there:
        raise ConfigError([f"FOLDER: {folder} has {', '.join(there)}, which would be overwritten; name another place"])
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / path, text.encode())
    place = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))}\n"
    sys.stdout.write(f"{place}raylight train experiment=mine\n")
    return 0


def schema_text() -> str:
    """The JSON Schema of all settings, as ``conf/schema.json`` has it."""
    return json.dumps(json_schema(), indent=1) + "\n"


def write_schema(out: Path | None) -> int:
    """Write the JSON Schema of all settings.

    Args:
        out: the file, whose folder is made; None: standard output.

    Returns:
        The exit code, 0.
    """
    if out is None:
        sys.stdout.write(schema_text())
        return 0
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, schema_text().encode())
    return 0
