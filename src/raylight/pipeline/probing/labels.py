"""``raylight labels`` without folds: leave-one-out predictions of a linear head on a pretrained network's features.

As good as a cross-validated logistic regression at finding planted errors, in a second (``experiments/rank``). The network has
its published weights, which weren't trained on these labels; a run's trained layers were, and aren't used. Leaves out how
suspects are chosen and shown (``auditing.labels``).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from raylight.auditing.commands import audit_labels
from raylight.auditing.labels import LabelErrors, labels_by, report_labels
from raylight.config.check import load_config
from raylight.config.resume import saved_config
from raylight.config.schema import AugmentConfig, FinetuneConfig, PhaseConfig, RunConfig
from raylight.errors import ConfigError, DataError
from raylight.pipeline.probing.settings import PROBE, as_settings, composed
from raylight.runs.run_dir import STATUS_FILE
from raylight.runs.sweep_dir import run_folders


def list_suspects(target: str, words: Sequence[str], out: Path | None) -> int:
    """List labels that are probably wrong, by the folds of a sweep or a head on a pretrained network's features.

    Args:
        target: the folder of a cross-validation's sweep, a run, a folder of images, or a setting such as ``data=NAME``.
        words: settings of the data and the model.
        out: folder for ``label_errors.csv`` and ``label_errors.html``; None prints only.

    Returns:
        0 if none is suspect, 1 otherwise.

    Raises:
        RaylightError: there are no images, too few of a class, or no predictions to judge them by.
    """
    folder = Path(target).expanduser()
    is_run = (folder / STATUS_FILE).is_file()
    if folder.is_dir() and not is_run and run_folders(folder):
        return audit_labels(target, words, out)
    config = run_config(folder, words) if is_run else load_config(composed([*PROBE, *as_settings([target, *words])]))
    if config.model.weights is None:
        if is_run:
            raise ConfigError(
                [
                    f"{target}: its network began with random weights; name the images, and a pretrained network: "
                    "raylight labels data=NAME model=resnet18"
                ]
            )
        of_data = [word for word in words if word.startswith(("data.", "cache_dir="))]
        return audit_labels(target, of_data, out)
    return report_labels(labels_of_features(config), out)


def run_config(folder: Path, words: Sequence[str]) -> RunConfig:
    """A run's data and network, as a probe.

    Args:
        folder: of the run.
        words: further settings, which are refused.

    Raises:
        RaylightError: settings are given, or the run can't be read.
    """
    if words:
        raise ConfigError([f"{words[0]}: a run's own data and network are taken; it takes no settings"])
    config = saved_config(folder / "config.yaml")
    phases = [PhaseConfig(train_from="head", solve=True)]
    probe = FinetuneConfig(name="probe", phases=phases, cache_dir=config.finetune.cache_dir)
    return replace(config, finetune=probe, augment=AugmentConfig())


def labels_of_features(config: RunConfig) -> LabelErrors:
    """Find suspect labels by leave-one-out ridge regression on the features of a network with its published weights.

    Args:
        config: of a probe.

    Raises:
        RaylightError: the images or the network can't be used.
    """
    from raylight.models.leave_one_out import leave_one_out, probabilities_of
    from raylight.pipeline.probing.probes import features_of_all

    images, features = features_of_all(config, with_test=True)
    targets = images.targets
    try:
        left_out = leave_one_out(features, targets, len(images.part.class_names), images.groups)
    except ValueError as error:
        raise DataError(f"{images.part.root}: {error}") from error
    return labels_by(
        images.part,
        probabilities_of(left_out, targets),
        name=config.data.name,
        judge=f"a linear head on {config.model.name}'s features that wasn't fitted on the image",
        better="Train a cross-validation (data.folds=5 -m data.fold=0,1,2,3,4) and name its folder.",
    )
