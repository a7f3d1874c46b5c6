"""AutoGluon's MultiModalPredictor on a table of paths and labels, as its quick start on image classification shows it."""

import json
from pathlib import Path

import pandas as pd
import torch
from autogluon.multimodal import MultiModalPredictor
from experiments.peers.task import Task
from timm.models import get_pretrained_cfg


def main() -> None:
    """Train and predict the test images."""
    task = Task.from_command_line()
    settings: dict[str, object] = {
        "model.names": ["timm_image"],
        "model.timm_image.checkpoint_name": str(checkpoint(task)),
    }
    if task.is_equal:
        settings |= {
            "optim.max_epochs": task.epochs,
            "optim.lr": task.learning_rate,
            "optim.lr_choice": "single_stage",
            "optim.patience": 1000,
            "env.batch_size": task.batch_size,
            "env.per_gpu_batch_size": task.batch_size,
            "model.timm_image.image_size": task.image_size,
            "model.timm_image.train_transforms": ["resize_shorter_side", "center_crop"],
        }
    # By its own metric, AUROC, it stops as soon as the few validation images are ranked without an error.
    by = {"eval_metric": "log_loss"} if task.is_equal else {}
    predictor = MultiModalPredictor(label="label", path=f"{task.scratch}/predictor", **by)
    predictor.fit(table(task, "train"), tuning_data=table(task, "val"), hyperparameters=settings, seed=task.seed)
    tested = table(task, "test")
    task.write_predictions(zip(tested["image"], predictor.predict(tested[["image"]]), strict=True))


def table(task: Task, split: str) -> pd.DataFrame:
    """Paths and labels of a split."""
    return pd.DataFrame(task.labelled(split), columns=["image", "label"])


def checkpoint(task: Task) -> Path:
    """The network as a folder of the form that AutoGluon's ``dump_model`` writes and ``checkpoint_name`` takes."""
    folder = Path(task.scratch) / task.network
    folder.mkdir()
    without_head = {name: value for name, value in torch.load(task.weights).items() if not name.startswith("fc.")}
    torch.save(without_head, folder / "pytorch_model.bin")
    about = get_pretrained_cfg(task.network)
    assert about is not None
    config = {"architecture": task.network, "num_features": 512, "pretrained_cfg": about.to_dict()}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


if __name__ == "__main__":
    main()
