"""A solved head is the optimum of the penalised cross-entropy, and training keeps it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as nnf

from raylight.config.rules.recipe import recipe_of
from raylight.config.schema import FinetuneConfig, PhaseConfig, RunConfig
from raylight.data.samples import Samples
from raylight.errors import ConfigError
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from raylight.training.phases import plan_phases
from raylight.training.probe import (
    FEW,
    STRENGTHS,
    SolvedHead,
    head_inputs,
    linear_head,
    reset_head,
    set_head,
    solve_head,
)
from raylight.training.trainer import Training, fit
from tests.training.test_features import MODEL, network, store


def clouds(n: int, n_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % n_classes
    return (rng.normal(0, 1, (n, 5)) + targets[:, None] * 0.7) * [1, 2, 3, 4, 50] + 7, targets


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("n_val", [0, 200])
def test_the_gradient_of_the_penalised_loss_vanishes_at_the_solution(n_classes: int, n_val: int) -> None:
    features, targets = clouds(120, n_classes, 1)
    probe = solve_head(features, targets, clouds(n_val, n_classes, 2), n_classes)
    assert STRENGTHS[0] < probe.strength <= STRENGTHS[-1]
    scaled = torch.from_numpy((features - features.mean(0)) / features.std(0))
    weight = torch.from_numpy(probe.weight * features.std(0)).requires_grad_()
    bias = torch.from_numpy(probe.bias + probe.weight @ features.mean(0)).requires_grad_()
    loss = nnf.cross_entropy(scaled @ weight.T + bias, torch.from_numpy(targets), reduction="sum")
    # Two classes have one logit, of which each class's row has a half: |w|^2 / 2 = |w[0]|^2 + |w[1]|^2.
    penalty = (weight**2).sum() * (0.5 if n_classes > 2 else 1.0)
    (probe.strength * loss + penalty).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-6 * probe.strength * len(targets)


def test_the_penalty_is_the_one_with_the_least_held_out_loss() -> None:
    features, targets = clouds(30, 2, 3)
    noise = np.random.default_rng(0).normal(0, 1, (30, 40))
    val, truth = clouds(400, 2, 4)
    padded = np.hstack([val, np.random.default_rng(1).normal(0, 1, (400, 40))])
    probe = solve_head(np.hstack([features, noise]), targets, (padded, truth), 2)

    def loss(strength: float) -> float:
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import log_loss
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000))
        return float(log_loss(truth, model.fit(np.hstack([features, noise]), targets).predict_proba(padded)))

    assert probe.strength == min(STRENGTHS, key=loss)
    assert probe.loss == pytest.approx(loss(probe.strength), rel=1e-3)


@pytest.mark.parametrize(("head", "fresh"), [("softmax", False), ("sigmoid", False), ("softmax", True)])
def test_training_sets_the_head_to_its_optimum_and_leaves_it_there_until_a_fresh_one_is_wanted(
    head: str, fresh: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import copy
    from dataclasses import replace

    from raylight.config.schema import LossConfig, TrainerConfig
    from raylight.cpu.settings import CpuSettings
    from raylight.models.build import build_network, class_logits
    from raylight.models.preprocessing import Preprocessing
    from raylight.runs.run_dir import RunDir
    from raylight.training.loaders import EpochLoaders, FeatureSources, Sampling
    from raylight.training.losses import Loss
    from raylight.training.module import Classifier, Task
    from raylight.training.optimization import Optimization
    from raylight.training.phases import TrainingPlan
    from tests.training.test_features import images

    model = replace(MODEL, head=head)
    net = network()
    if head == "sigmoid":
        one = build_network(model, 2)
        one.load_state_dict({k: v for k, v in net.state_dict().items() if "classifier" not in k}, strict=False)
        net = one
    # The second phase, at a rate of nothing, only exchanges the head.
    following = [PhaseConfig("head", learning_rate=0.0, fresh_head=True)] if fresh else []
    recipe = FinetuneConfig(phases=[PhaseConfig("head", solve=True, epochs=1 if fresh else None), *following])
    epochs = len(recipe.phases)
    phases = plan_phases(net, recipe, epochs, None)
    whole = images(36)
    data, val = (
        replace(whole, rows=whole.rows[part], targets=whole.targets[part], keys=whole.keys[part])
        for part in (slice(24), slice(24, 36))
    )
    settings = Preprocessing.from_config(MODEL)
    classifier = Classifier(
        net,
        settings,
        TrainingPlan(
            phases, Optimization({"_target_": "torch.optim.Adam", "lr": 0.1}, None, per_phase=False), Loss(LossConfig())
        ),
        Task(2, 1),
        channels_last=False,
        seed=1,
    )
    kept = store(tmp_path, net)
    sampling = Sampling(8, 1, groups=np.arange(24) // 3)
    loaders = EpochLoaders(data, val, phases, FeatureSources(kept.features, kept.features), None, sampling)
    given_groups = []

    def watched(*args: Any, **settings: Any) -> SolvedHead:
        given_groups.append(settings["groups"].tolist())
        return solve_head(*args, **settings)

    monkeypatch.setattr("raylight.training.module.solve_head", watched)
    training = Training(
        classifier, loaders, TrainerConfig(max_epochs=epochs, progress="off"), CpuSettings("32", False, 1, "")
    )
    fit(training, RunDir.claim(tmp_path / "run"), False)
    assert given_groups == [[image // 3 for image in range(24)]]
    if fresh:
        again, trained = copy.deepcopy(net), linear_head(net)
        reset_head(again, 1)
        expected = linear_head(again)
        assert trained is not None
        assert expected is not None
        assert torch.equal(trained.weight, expected.weight)
        return
    stage = phases[0].input_stage
    features, held_out = (head_inputs(net, kept.features(part, stage, None), stage) for part in (data, val))
    probe = solve_head(features, data.targets, (held_out, val.targets), 2, groups=sampling.groups)
    with torch.no_grad():
        given = class_logits(net.eval()(settings.normalise(torch.from_numpy(whole.store[:24])))).softmax(1).numpy()
    wanted = torch.from_numpy(features @ probe.weight.T + probe.bias).softmax(1).numpy()
    np.testing.assert_allclose(given, wanted, atol=1e-4)
    assert (given.argmax(1) == data.targets).all()


def test_a_solved_phase_takes_one_epoch_and_a_head_of_two_layers_its_share() -> None:
    recipe = [PhaseConfig("head", share=0.5, solve=True), PhaseConfig("last_blocks", learning_rate=1e-4)]
    run = RunConfig()
    run.finetune, run.model, run.trainer.max_epochs = FinetuneConfig(phases=recipe), MODEL, 5

    def lengths(network: object) -> list[tuple[int, int, bool]]:
        phases = plan_phases(network, recipe_of(run), 5, "features.15")  # type: ignore[arg-type]
        return [(phase.first_epoch, phase.epochs, phase.solve) for phase in phases]

    assert lengths(network()) == [(0, 1, True), (1, 4, False)]
    solved, following = plan_phases(network(), recipe_of(run), 5, "features.15")
    assert solved.input_stage == following.input_stage  # the layers below are computed once, for both
    assert (solved.views, following.views) == (4, 4)
    from dataclasses import replace

    from raylight.models.build import build_network

    squeezenet = build_network(replace(MODEL, name="squeezenet1_1"), 2)
    run.finetune.phases = [recipe[0], PhaseConfig("head")]
    assert lengths(squeezenet) == [(0, 1, True), (1, 4, False)]
    layers = nn.ModuleDict({"body": nn.Conv2d(3, 8, 1), "head": nn.Conv2d(8, 2, 1), "clip": nn.ReLU()})
    pool = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    convolution = StagedNetwork(layers, ["body", "head", "clip", *pool], 1, pool)  # ReLU before the average: not linear
    assert linear_head(convolution) is None
    assert lengths(convolution) == [(0, 3, False), (3, 2, False)]
    with pytest.raises(ConfigError, match="this network has no such head: use finetune=frozen"):
        plan_phases(convolution, FinetuneConfig(phases=[PhaseConfig("head", solve=True)]), 1, None)
    with pytest.raises(ConfigError, match=r"set finetune\.cache=true"):
        plan_phases(network(), FinetuneConfig(phases=[PhaseConfig("head", solve=True)], cache=False), 1, None)


def test_a_head_of_1_by_1_convolutions_is_solved_on_averages(tmp_path: Path) -> None:
    """SqueezeNet averages the outputs of its last convolution, which is linear in the averages of its inputs."""
    from dataclasses import replace

    from raylight.models.build import build_network
    from tests.training.test_features import images

    network = build_network(replace(MODEL, name="squeezenet1_1"), 3).eval()
    whole = images(12)
    pixels = Preprocessing.from_config(MODEL).normalise(torch.from_numpy(whole.store[whole.rows.ravel()]))
    stage = network.head_start
    with torch.no_grad():
        maps = network.run(pixels, 0, stage)
        seen = head_inputs(network, replace(whole, store=maps.numpy(), rows=np.arange(12)), stage)
        np.testing.assert_allclose(seen, maps.numpy().mean((2, 3)), rtol=1e-5, atol=1e-6)
        rng = np.random.default_rng(0)
        solved = SolvedHead(rng.normal(size=(3, 512)), rng.normal(size=3), 1.0, 0.0)
        set_head(network, solved)
        np.testing.assert_allclose(network(pixels), seen @ solved.weight.T + solved.bias, rtol=1e-4, atol=1e-4)


@threadpool_limits.wrap(limits=1)
@pytest.mark.parametrize(("n_classes", "balanced", "views"), [(2, True, 1), (3, False, 2)])
def test_few_held_out_images_leave_the_choice_to_cross_validation(n_classes: int, balanced: bool, views: int) -> None:
    """As scikit-learn's grid search chooses, with the views of an image in one fold; the loss is the mean over folds."""
    features, targets = clouds(48, n_classes, 5)
    features, targets = np.repeat(features, views, 0), np.repeat(targets, views)
    features = features + np.random.default_rng(6).normal(0, 0.3, features.shape)
    keep = np.repeat(np.arange(48) % 7 != 1, views)  # classes of unequal size
    features, targets = features[keep], targets[keep]
    images = np.arange(len(targets)) // views
    probe = solve_head(features, targets, clouds(FEW - 1, n_classes, 7), n_classes, balanced=balanced, groups=images)
    scaled = (features - features.mean(0)) / features.std(0)
    weigh = "balanced" if balanced else None
    search = GridSearchCV(
        LogisticRegression(max_iter=5000, class_weight=weigh), {"C": STRENGTHS}, scoring="neg_log_loss",
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
    ).fit(scaled, targets, groups=images)  # fmt: skip
    assert probe.strength == search.best_params_["C"]
    assert probe.loss == pytest.approx(-search.best_score_, rel=1e-3)
    wanted = LogisticRegression(max_iter=5000, tol=1e-9, C=probe.strength, class_weight=weigh).fit(scaled, targets)
    given = torch.from_numpy(features @ probe.weight.T + probe.bias).softmax(1).numpy()
    np.testing.assert_allclose(given, wanted.predict_proba(scaled), atol=1e-5)
    assert probe.weight.shape == (n_classes, 5)


@threadpool_limits.wrap(limits=1)
def test_folds_do_not_divide_a_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where five images of a patient differ by little, folds of images would find the weakest penalty best."""
    rng = np.random.default_rng(0)
    patients = np.arange(30) % 2
    signal = np.where(patients[:, None] == 1, 0.5, -0.5) * (np.arange(60) < 4)
    centres = rng.normal(size=(30, 60)) + signal
    features = (centres[:, None] + 0.15 * rng.normal(size=(30, 5, 60))).reshape(-1, 60)
    targets, groups = patients.repeat(5), np.arange(30).repeat(5)
    nothing = features[:0], targets[:0]
    by_image = solve_head(features, targets, nothing, 2)
    by_patient = solve_head(features, targets, nothing, 2, groups=groups)
    assert by_image.strength == STRENGTHS[-1]
    assert by_patient.strength < 0.1
    unseen = np.arange(400) % 2
    new = rng.normal(size=(400, 60)) + np.where(unseen[:, None] == 1, 0.5, -0.5) * (np.arange(60) < 4)
    losses = [
        log_loss(unseen, torch.from_numpy(new @ head.weight.T + head.bias).softmax(1).numpy())
        for head in (by_image, by_patient)
    ]
    assert losses[1] < losses[0] - 0.3


def test_classes_of_one_or_two_patients_do_no_harm() -> None:
    features, targets = clouds(60, 3, 13)
    nothing = features[:0], targets[:0]
    one = solve_head(features, targets, nothing, 3, groups=targets)
    by_image = solve_head(features, targets, nothing, 3)
    assert (one.strength, one.loss) == (by_image.strength, by_image.loss)  # no fold of groups has all classes
    assert one.strength > 100 * STRENGTHS[0]
    two = solve_head(features, targets, nothing, 3, groups=2 * targets + np.arange(60) % 2)
    assert np.isfinite(two.loss)


def test_inputs_are_computed_on_the_device_of_the_head() -> None:
    """Here the meta device, on which tensors have no values: the stage below the head makes some."""
    from collections import OrderedDict

    seen = []

    class Stage(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            seen.append(values.device.type)
            return torch.arange(values.numel(), dtype=torch.float32).reshape(values.shape)

    class Head(nn.Linear):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values

    parts = OrderedDict(body=nn.Identity(), stage=Stage(), head=Head(3, 2, device="meta"))
    network = StagedNetwork(nn.Sequential(parts), list(parts), 1)
    whole = Samples(np.ones((4, 3), np.float32), np.arange(4), np.zeros(4, np.int64), tuple("abcd"))
    assert head_inputs(network, whole, 1).tolist() == np.arange(12.0).reshape(4, 3).tolist()
    assert seen == ["meta"]


def test_hundred_held_out_images_choose_themselves() -> None:
    features, targets = clouds(40, 2, 8)
    val = clouds(FEW, 2, 9)
    probe = solve_head(features, targets, val, 2)
    scaled, unseen = ((part - features.mean(0)) / features.std(0) for part in (features, val[0]))
    losses = [
        log_loss(val[1], LogisticRegression(C=c, max_iter=5000).fit(scaled, targets).predict_proba(unseen))
        for c in STRENGTHS
    ]
    assert probe.loss == pytest.approx(min(losses), rel=1e-3)
    assert list(STRENGTHS) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10])


@threadpool_limits.wrap(limits=1)
def test_weakly_penalised_heads_with_more_features_than_images_are_solved_too() -> None:
    """Where L-BFGS takes many steps, and a looser tolerance stops early."""
    rng = np.random.default_rng(12)
    targets = np.arange(60) % 2
    features = rng.normal(0, 1, (60, 300)) + targets[:, None] * (np.arange(300) < 3)
    far = (rng.normal(0, 1, (200, 300)) + (np.arange(200) % 2)[:, None] * (np.arange(300) < 3), np.arange(200) % 2)
    scaled, unseen = ((part - features.mean(0)) / features.std(0) for part in (features, far[0]))
    probe = solve_head(features, targets, far, 2)
    wanted = LogisticRegression(C=probe.strength, tol=1e-10, max_iter=100_000).fit(scaled, targets)
    given = torch.from_numpy(far[0] @ probe.weight.T + probe.bias).softmax(1).numpy()
    np.testing.assert_allclose(given, wanted.predict_proba(unseen), atol=1e-5)
    losses = [
        log_loss(
            far[1], LogisticRegression(C=c, tol=1e-10, max_iter=100_000).fit(scaled, targets).predict_proba(unseen)
        )
        for c in STRENGTHS
    ]
    assert (probe.strength, probe.loss) == (STRENGTHS[int(np.argmin(losses))], pytest.approx(min(losses), rel=1e-5))


def test_a_feature_that_never_varies_and_a_class_of_one_image_do_no_harm() -> None:
    features, targets = clouds(40, 2, 10)
    features[:, 2] = 3.0
    probe = solve_head(features, targets, clouds(FEW, 2, 11), 2)
    assert np.isfinite(probe.weight).all()
    lonely = np.where(np.arange(40) == 0, 1, 0)
    alone = solve_head(features, lonely, (np.zeros((0, 5)), np.zeros(0, int)), 2)
    assert (alone.strength, alone.loss) == (STRENGTHS[0], np.inf)
    with pytest.raises(ValueError, match="a class has no training image"):
        solve_head(features, lonely, clouds(FEW, 2, 11), 3)


def test_a_fresh_head_is_random_again_and_depends_on_the_seed_alone() -> None:
    net = network()
    head, body = linear_head(net), next(net.parameters()).clone()
    assert head is not None
    before = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        nn.init.constant_(head.weight, 100.0)
        reset_head(net, seed)
        drawn.append(head.weight.detach().clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    bound = head.weight.shape[1] ** -0.5  # PyTorch's uniform distribution for linear layers
    assert bound * 0.9 < drawn[0].abs().max() <= bound
    assert torch.equal(next(net.parameters()), body)
    assert torch.equal(torch.get_rng_state(), before)
