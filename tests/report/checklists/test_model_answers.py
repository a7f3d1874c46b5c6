"""Answers on the model say what the run's settings and files hold."""

import pytest

from raylight.report.checklists.model_answers import MODEL_ANSWERS
from raylight.report.facts import RunFacts
from raylight.runs.looks import LOOKS_FILE, record_look, record_test
from raylight.runs.run_dir import RunDir
from tests.finished_run import FinishedRun
from tests.report.checklists.test_data_answers import change

ADAMW = {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.001, "weight_decay": 0.01}
COSINE = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "_partial_": True, "T_max": 3}


def says(run: RunDir, name: str) -> str:
    answer = MODEL_ANSWERS[name](RunFacts(run))
    assert answer is not None
    return answer.text


def test_the_network_is_told_with_its_size(finished: FinishedRun) -> None:
    parameters = sum(parameter.numel() for parameter in finished.network.parameters())
    assert (
        says(finished.run, "model")
        == f"cnn2 (Raylight's, {parameters:,} parameters), with a softmax output for 2 classes."
    )
    assert "neural network (cnn2)" in says(finished.run, "technology")


def test_training_tells_each_phase_with_its_rate(finished: FinishedRun) -> None:
    phases = [{"train_from": "head", "solve": True, "share": 0.5}, {"train_from": "last_blocks", "learning_rate": 1e-4}]
    change(finished.run, optimizer=ADAMW, scheduler=COSINE, finetune__phases=phases, loss__label_smoothing=0.1)
    assert says(finished.run, "training") == (
        "3 epochs in batches of 32: the last layer, solved as a convex problem on fixed features, then the last blocks at "
        "learning rate 0.0001. Optimizer AdamW (weight_decay 0.01), schedule CosineAnnealingLR, loss cross entropy with label "
        "smoothing 0.1, seed 1, precision auto."
    )


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (None, "Random weights (seed 1)."),
        ("DEFAULT", "The network starts from published weights (DEFAULT); its last layer is new (seed 1)."),
        ("/a/b/own.pt", "The network starts from pretrained weights from own.pt; its last layer is new (seed 1)."),
    ],
)
def test_where_training_began(finished: FinishedRun, weights: str | None, text: str) -> None:
    assert says(change(finished.run, model__weights=weights), "initialization") == text


def test_augmentation_names_each_transform(finished: FinishedRun) -> None:
    steps = [{"_target_": "torchvision.transforms.v2.RandomHorizontalFlip"}]
    change(finished.run, augment__transforms=steps, augment__batch=[])
    assert (
        says(finished.run, "augmentation")
        == "Training images are changed at random in each epoch: RandomHorizontalFlip."
    )
    change(finished.run, augment__transforms=[])
    assert says(finished.run, "augmentation") == "No augmentation."


def test_the_threshold_and_how_it_was_found(finished: FinishedRun) -> None:
    metrics = finished.run.read_json("metrics.json")
    assert "(fixed before training)" in says(finished.run, "threshold")
    finished.run.write_json("metrics.json", metrics | {"decision": metrics["decision"] | {"rule": "f1"}})
    finished.run.write_json("preprocessing.json", finished.run.read_json("preprocessing.json") | {"threshold": 0.31})
    assert says(finished.run, "threshold") == (
        "An image is called dog where its probability exceeds 0.31 (by the rule f1, on validation images alone)."
    )


@pytest.mark.parametrize("rule", ["0.3", ".5", "0.50"])
def test_any_threshold_that_is_a_number_was_fixed_before_training(finished: FinishedRun, rule: str) -> None:
    metrics = finished.run.read_json("metrics.json")
    finished.run.write_json("metrics.json", metrics | {"decision": metrics["decision"] | {"rule": rule}})
    finished.run.write_json("preprocessing.json", finished.run.read_json("preprocessing.json") | {"threshold": 0.3})
    assert says(finished.run, "threshold").endswith("its probability exceeds 0.3 (fixed before training).")


def test_a_run_that_was_given_more_epochs_was_changed_after_its_test(finished: FinishedRun) -> None:
    unchanged = "None: the model was not changed after it was evaluated on test images."
    (finished.run / LOOKS_FILE).unlink()
    record_test(finished.run, 3)
    assert says(finished.run, "updating") == unchanged
    record_test(finished.run, 3)  # resumed without more epochs
    record_look(finished.run, "raylight evaluate, after training with other data")
    assert says(finished.run, "updating") == unchanged
    record_test(finished.run, 5)
    assert says(finished.run, "updating") == (
        "The model was trained further once after it had been evaluated on test images, and evaluated on them again (after "
        "3 and 5 epochs); the results are of the last evaluation."
    )
    record_test(finished.run, 15)
    assert "trained further 2 times after" in says(finished.run, "updating")


def test_many_classes_have_no_threshold(run_of) -> None:
    run, _ = run_of(("a", "b", "c"))
    assert says(run, "threshold") == "The class is the most probable one; there is no threshold."


def test_the_chosen_epoch_and_the_group_of_a_sweep(finished: FinishedRun) -> None:
    assert says(finished.run, "selection").startswith("The checkpoint of epoch 3 of 3, chosen by val/loss;")
    assert "one of the group grid" in says(change(finished.run, logger__group="grid"), "selection")


def test_averaged_weights_are_no_ensemble(finished: FinishedRun) -> None:
    assert "weights of one epoch" in says(finished.run, "ensembling")
    assert "moving average over training steps" in says(change(finished.run, trainer__averaging="ema"), "ensembling")


def test_images_without_an_answer_where_the_run_may_refuse(finished: FinishedRun) -> None:
    assert "no indeterminate results" in says(finished.run, "indeterminate")
    finished.run.write_json("metrics.json", finished.run.read_json("metrics.json") | {"abstention": {"share": 0.9}})
    assert "No class is given where it would be too uncertain" in says(finished.run, "indeterminate")


def test_fairness_of_own_code_is_left_to_the_author(finished: FinishedRun) -> None:
    assert says(finished.run, "fairness").endswith("no subgroup was judged.")
    assert MODEL_ANSWERS["fairness"](RunFacts(change(finished.run, loss___target_="mine.Loss"))) is None


def test_software_is_that_of_the_environment(finished: FinishedRun) -> None:
    import torch

    assert f"torch {torch.__version__.partition('+')[0]}" in says(finished.run, "software")
