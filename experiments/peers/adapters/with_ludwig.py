"""Ludwig on a table of paths and labels: ``LudwigModel(config)``, ``train`` and ``predict``, as its user guide shows it."""

import pandas as pd
from experiments.peers.task import Task
from ludwig.api import LudwigModel


def main() -> None:
    """Train and predict the test images."""
    task = Task.from_command_line()
    encoder: dict[str, object] = {"type": "resnet", "model_variant": int(task.network.removeprefix("resnet"))}
    config: dict[str, object] = {
        "input_features": [{"name": "image", "type": "image", "encoder": encoder}],
        "output_features": [{"name": "label", "type": "category"}],
    }
    if task.is_equal:
        encoder["trainable"] = True
        trainer = {"epochs": task.epochs, "batch_size": task.batch_size, "learning_rate": task.learning_rate}
        config["trainer"] = {**trainer, "optimizer": {"type": "adam"}, "early_stop": -1}
    model = LudwigModel(config, backend="local")
    model.train(
        training_set=table(task, "train"),
        validation_set=table(task, "val"),
        output_directory=f"{task.scratch}/results",
        random_seed=task.seed,
    )
    tested = table(task, "test")
    predictions, _ = model.predict(tested)
    task.write_predictions(zip(tested["image"], predictions["label_predictions"], strict=True))


def table(task: Task, split: str) -> pd.DataFrame:
    """Paths and labels of a split."""
    return pd.DataFrame(task.labelled(split), columns=["image", "label"])


if __name__ == "__main__":
    main()
