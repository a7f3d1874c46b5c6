"""The training loop that people write: ImageFolder, a DataLoader with two workers, fp32, one pass after the other.

    python experiments/speed/plain_loop.py --run RUN [--lightning] [--epochs N] [--workers 2] [--limit-batches N]

Repeats a Raylight run: the same files, splits, network, start weights, optimizer, batch size, epochs and augmentation,
read from the run's ``config.yaml`` and ``index.parquet``. ``--lightning`` puts the same loader and network into Lightning with
its defaults. Prints one line of JSON: seconds, images a second, accuracies.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

BEGIN = time.perf_counter()


def main() -> None:
    """Train, then test; print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the Raylight run to repeat")
    parser.add_argument("--epochs", type=int, help="fewer epochs than the run had")
    parser.add_argument("--workers", type=int, default=2, help="loader workers")
    parser.add_argument("--limit-batches", type=int, help="batches an epoch at most")
    parser.add_argument("--lightning", action="store_true", help="Lightning's Trainer with its defaults")
    arguments = parser.parse_args()

    from omegaconf import OmegaConf

    config = OmegaConf.load(arguments.run / "config.yaml")
    epochs = arguments.epochs or config.trainer.max_epochs
    with tempfile.TemporaryDirectory() as folder:
        loaders = make_loaders(Path(folder), arguments.run, config, arguments.workers)
        network, trained = make_network(config)
        train = with_lightning if arguments.lightning else by_hand
        seconds = train(network, trained, loaders, config, epochs, arguments.limit_batches)
        accuracy = evaluate(network, loaders["test"]) if arguments.limit_batches is None else None
    n_train = len(loaders["train"].dataset)
    if arguments.limit_batches is not None:
        n_train = min(n_train, arguments.limit_batches * config.trainer.batch_size)
    print(
        json.dumps(
            {
                "epochs": epochs,
                "epoch_seconds": seconds,
                "train_images_per_s": round(n_train / min(epoch["train"] for epoch in seconds), 2),
                "test_accuracy": accuracy,
                "seconds": round(time.perf_counter() - BEGIN, 2),
            }
        )
    )


def make_loaders(folder: Path, run: Path, config: Any, workers: int) -> dict[str, Any]:
    """ImageFolder reads a folder a class: links to the run's files stand in such folders."""
    import pyarrow.parquet as pq
    import torch
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    table = pq.read_table(run / "index.parquet")
    root = Path(json.loads(table.schema.metadata[b"raylight"])["root"])
    for number, row in enumerate(table.select(["path", "label", "split", "status"]).to_pylist()):
        if row["status"] == "ok" and row["split"]:
            place = folder / row["split"] / row["label"]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}{Path(row['path']).suffix}").symlink_to(root / row["path"])
    size = config.model.image_size
    shape = (
        [transforms.Resize(config.model.resize_size), transforms.CenterCrop(size)]
        if config.model.resize == "crop"
        else [transforms.Resize((size, size))]
    )
    end = [transforms.ToTensor()]
    if config.model.normalize == "imagenet":
        end.append(transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    flips = [transforms.RandomHorizontalFlip()] if config.augment.name == "flip" else []
    if config.augment.name not in ("flip", "none"):
        raise SystemExit(f"augment={config.augment.name}: only flip and none are written out here")
    torch.manual_seed(config.seed)
    return {
        split: torch.utils.data.DataLoader(
            ImageFolder(folder / split, transforms.Compose([*shape, *(flips if split == "train" else []), *end])),
            batch_size=config.trainer.batch_size,
            shuffle=split == "train",
            num_workers=workers,
        )
        for split in ("train", "val", "test")
    }


def make_network(config: Any) -> tuple[Any, list[Any]]:
    """The run's network with its start weights, and the parameters that train; frozen layers get no gradient."""
    import pytorch_lightning as pl

    from raylight.config.check import load_config
    from raylight.models.build import build_network

    pl.seed_everything(config.seed, verbose=False)
    settings = load_config(config)
    network = build_network(settings.model, 2)
    if settings.finetune.phases[0].train_from == "head":
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        for position in range(network.head_start, len(network.stage_names)):
            for parameter in network.stage(position).parameters():
                parameter.requires_grad_(True)
    return network, [parameter for parameter in network.parameters() if parameter.requires_grad]


def loss_of(logits: Any, targets: Any) -> Any:
    """Cross-entropy, or its binary form for one output."""
    from torch.nn import functional as nnf

    if logits.shape[1] == 1:
        return nnf.binary_cross_entropy_with_logits(logits[:, 0], targets.float())
    return nnf.cross_entropy(logits, targets)


def by_hand(
    network: Any, trained: list[Any], loaders: dict[str, Any], config: Any, epochs: int, limit: int | None
) -> list[dict[str, float]]:
    """Epoch after epoch: train, then validate."""
    from hydra.utils import instantiate

    optimizer = instantiate(config.optimizer)(trained)
    schedule = instantiate(config.scheduler)(optimizer) if config.scheduler else None
    frozen = len(trained) < len(list(network.parameters()))
    seconds = []
    for _ in range(epochs):
        begin = time.perf_counter()
        network.train(not frozen)
        for step, (images, targets) in enumerate(loaders["train"]):
            if limit is not None and step == limit:
                break
            optimizer.zero_grad()
            loss_of(network(images), targets).backward()
            optimizer.step()
        if schedule is not None:
            schedule.step()
        middle = time.perf_counter()
        if limit is None:
            evaluate(network, loaders["val"])
        seconds.append({"train": round(middle - begin, 2), "val": round(time.perf_counter() - middle, 2)})
    return seconds


def with_lightning(
    network: Any, trained: list[Any], loaders: dict[str, Any], config: Any, epochs: int, limit: int | None
) -> list[dict[str, float]]:
    """Lightning as its first page shows it; an epoch's seconds are those of training and validation."""
    import pytorch_lightning as pl
    from hydra.utils import instantiate

    seconds: list[dict[str, float]] = []

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = loss_of(self.network(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", loss_of(self.network(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return instantiate(config.optimizer)(trained)

        def on_train_epoch_start(self) -> None:
            self.begin = time.perf_counter()

        def on_train_epoch_end(self) -> None:  # after validation
            seconds.append({"train": round(time.perf_counter() - self.begin, 2), "val": 0.0})

    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=epochs,
            default_root_dir=folder,
            accelerator="cpu",
            enable_progress_bar=False,
            limit_train_batches=limit,
            limit_val_batches=0 if limit is not None else None,
        )
        trainer.fit(Module(), loaders["train"], loaders["val"])
    return seconds


def evaluate(network: Any, loader: Any) -> float:
    """Accuracy over a loader."""
    import torch

    network.eval()
    right = 0
    with torch.no_grad():
        for images, targets in loader:
            logits = network(images)
            predicted = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)
            right += int((predicted == targets).sum())
    return right / len(loader.dataset)


if __name__ == "__main__":
    main()
