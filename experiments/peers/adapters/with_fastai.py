"""fastai as its quick start trains cats and dogs: ``vision_learner``, ``fine_tune(1)``, 224 pixels."""

from experiments.peers.task import Task
from fastai.vision.all import ImageDataLoaders, Path, Resize, accuracy, set_seed, vision_learner
from torchvision import models


def main() -> None:
    """Train and predict the test images."""
    task = Task.from_command_line()
    set_seed(task.seed)
    batches = {"bs": task.batch_size} if task.is_equal else {}
    size = Resize(task.image_size) if task.is_equal else Resize(224)
    loaders = ImageDataLoaders.from_folder(task.data, valid="val", item_tfms=size, **batches)
    # Its weights come from torch's hub cache, which the bench has filled.
    learner = vision_learner(loaders, getattr(models, task.network), metrics=accuracy, path=Path(task.scratch))
    if task.is_equal:
        learner.unfreeze()
        learner.fit_one_cycle(task.epochs, task.learning_rate)
    else:
        learner.fine_tune(1)
    tested = [path for path, _ in task.labelled("test")]
    probabilities, _ = learner.get_preds(dl=loaders.test_dl([Path(path) for path in tested]))
    labels = [loaders.vocab[number] for number in probabilities.argmax(1)]
    task.write_predictions(zip(tested, labels, strict=True))


if __name__ == "__main__":
    main()
