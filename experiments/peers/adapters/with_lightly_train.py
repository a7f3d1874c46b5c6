"""LightlyTrain as its page on image classification shows it: ``train_image_classification``, ``load_model``, ``predict``.

Its default is 100,000 steps of 16 images, and no setting limits the time.
"""

from typing import Any

import lightly_train
from experiments.peers.task import Task


def main() -> None:
    """Train and predict the test images."""
    task = Task.from_command_line()
    classes = dict(enumerate(sorted({label for _, label in task.labelled("train")})))
    settings: dict[str, Any] = {}
    # Its torchvision networks start at random otherwise.
    network: dict[str, Any] = {"backbone_args": {"weights": "DEFAULT"}}
    if task.is_equal:
        network |= {"lr": task.learning_rate, "lr_warmup_steps": 0}  # its 500 are more than all steps
        settings = {
            "steps": task.epochs * (len(task.labelled("train")) // task.batch_size),  # incomplete batches are left out
            "batch_size": task.batch_size,
            "gradient_accumulation_steps": 1,
            "transform_args": {
                "image_size": (task.image_size, task.image_size),
                "random_crop": None,
                "random_flip": None,
                "color_jitter": None,
                # As in its validation: the shorter side becomes 256 pixels, of which the centre is taken.
                "resize_scale": 1.143,
            },
        }
    out = f"{task.scratch}/out"
    lightly_train.train_image_classification(
        out=out,
        data={"train": f"{task.data}/train", "val": f"{task.data}/val", "classes": classes},
        model=f"torchvision/{task.network}",
        seed=task.seed,
        model_args=network,
        **settings,
    )
    model = lightly_train.load_model(f"{out}/exported_models/exported_best.pt")
    tested = [path for path, _ in task.labelled("test")]
    labels = [classes[int(model.predict(path)["labels"][0])] for path in tested]
    task.write_predictions(zip(tested, labels, strict=True))


if __name__ == "__main__":
    main()
