"""What a run can say of its model: what it is, how it was trained and chosen, what it gives."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raylight.config.rules.decision_rule import parse_rule
from raylight.config.rules.recipe import recipe_of
from raylight.config.schema import PhaseConfig
from raylight.report.checklists.answer import REPORT, Answer, by_class, listed
from raylight.report.facts import RunFacts, parameters_of
from raylight.runs.looks import LOOKS_FILE, tests_of

WEIGHTS = ("model.safetensors", "preprocessing.json")


def technology(facts: RunFacts) -> Answer:
    """The kind of AI."""
    return Answer(
        f"Deep learning: supervised classification of images by a neural network ({facts.config.model.name}).",
        ("config.yaml",),
    )


def model(facts: RunFacts) -> Answer:
    """The network."""
    settings, parameters = facts.config.model, parameters_of(facts.run)
    origin = settings._target_ or {"torchvision": "torchvision's", "timm": "timm's"}.get(settings.family, "Raylight's")
    size = f", {parameters:,} parameters" if parameters else ""
    return Answer(
        f"{settings.name} ({origin}{size}), with a {settings.head} output for {len(facts.index.class_names)} classes.",
        ("config.yaml", *WEIGHTS),
    )


def output(facts: RunFacts) -> Answer:
    """What the network gives."""
    calibrated = (
        "not calibrated"
        if facts.temperature == 1
        else f"calibrated by a temperature of {facts.temperature:.3g}, fitted on validation images"
    )
    return Answer(f"The output is a probability of each class, {calibrated}.", WEIGHTS)


def threshold(facts: RunFacts) -> Answer:
    """How the class follows from the probabilities."""
    if facts.threshold is None or not facts.decision:
        return Answer("The class is the most probable one; there is no threshold.", ("preprocessing.json",))
    rule = str(facts.decision["rule"])
    fixed = parse_rule(rule).kind == "fixed"
    how = "fixed before training" if fixed else f"by the rule {rule}, on validation images alone"
    return Answer(
        f"An image is called {facts.index.positive_class} where its probability exceeds {facts.threshold:.3g} ({how}).",
        ("preprocessing.json", "metrics.json"),
    )


def software(facts: RunFacts) -> Answer:
    """Versions and processor."""
    packages: Mapping[str, str] = facts.environment["packages"]
    told = ", ".join(f"{name} {version}" for name, version in packages.items())
    return Answer(
        f"Python {facts.environment['python']} with {told}, on {facts.environment['processor']}.", ("environment.json",)
    )


def initialization(facts: RunFacts) -> Answer:
    """Where training began."""
    weights, seed = facts.config.model.weights, facts.config.seed
    if weights is None:
        return Answer(f"Random weights (seed {seed}).", ("config.yaml",))
    name = f"published weights ({weights})" if weights == "DEFAULT" else f"pretrained weights from {Path(weights).name}"
    return Answer(f"The network starts from {name}; its last layer is new (seed {seed}).", ("config.yaml",))


def training(facts: RunFacts) -> Answer:
    """Phases, optimizer, loss, epochs."""
    config, optimizer = facts.config, facts.settings["optimizer"]
    phases = ", then ".join(_phase(phase, optimizer.get("lr")) for phase in recipe_of(config).phases)
    loss = config.loss._target_ or config.loss.name.replace("_", " ")
    loss += f" with label smoothing {config.loss.label_smoothing:g}" if config.loss.label_smoothing else ""
    more = ", ".join(f"{key} {value}" for key, value in optimizer.items() if key not in ("_target_", "_partial_", "lr"))
    return Answer(
        f"{facts.chosen['epochs_trained']} epochs in batches of {config.trainer.batch_size}: {phases}. Optimizer "
        f"{_called(optimizer)}{f' ({more})' if more else ''}, schedule {_called(facts.settings['scheduler'])}, loss {loss}, "
        f"seed {config.seed}, precision {config.trainer.precision}.",
        ("config.yaml", "history.csv", f"{REPORT}#training"),
    )


def _phase(phase: PhaseConfig, usual_rate: float | None) -> str:
    part = {"all": "all layers", "head": "the last layer", "last_blocks": "the last blocks"}.get(
        phase.train_from, f"the layers from {phase.train_from} on"
    )
    if phase.solve:
        return f"{part}, solved as a convex problem on fixed features"
    rate = usual_rate if phase.learning_rate is None else phase.learning_rate
    lower = f", pretrained layers at {phase.backbone_factor:g} times it" if phase.backbone_factor != 1 else ""
    return part + ("" if rate is None else f" at learning rate {rate:g}{lower}")


def _called(node: Mapping[str, Any]) -> str:
    return str(node["_target_"]).rpartition(".")[2]


def augmentation(facts: RunFacts) -> Answer:
    """Random changes of training images."""
    augment: Mapping[str, Any] = facts.settings["augment"]
    names = [_called(step) for step in (*augment["transforms"], *augment["batch"])]
    told = f"Training images are changed at random in each epoch: {listed(names)}." if names else "No augmentation."
    return Answer(told, ("config.yaml",))


def selection(facts: RunFacts) -> Answer:
    """Which epoch, and by what."""
    chosen, group = facts.chosen, facts.config.logger.group
    swept = f" The run is one of the group {group}, of which settings may have been chosen." if group else ""
    return Answer(
        f"The checkpoint of epoch {chosen['selected_epoch'] + 1} of {chosen['epochs_trained']}, chosen by "
        f"{chosen['selected_by']}; no test image took part in it.{swept}",
        ("metrics.json", "history.csv"),
    )


def ensembling(facts: RunFacts) -> Answer:
    """One network or several."""
    averaged = {
        "none": "one network with the weights of one epoch",
        "ema": "one network, whose weights are a moving average over training steps",
        "swa": "one network, whose weights are an average over epochs",
    }[facts.config.trainer.averaging]
    return Answer(f"No ensemble: {averaged}.", ("config.yaml", "model.safetensors"))


def repeat(facts: RunFacts) -> Answer:
    """How the run is repeated."""
    return Answer(
        "All settings, seeds and versions are recorded; one command repeats the run from them.",
        ("config.yaml", "environment.json", f"{REPORT}#provenance"),
    )


def availability(facts: RunFacts) -> Answer:
    """Code and weights."""
    version = facts.environment["packages"].get("raylight")
    return Answer(
        f"Raylight {version} (MIT licence); the trained weights are in the run's folder.", (*WEIGHTS, "model_card.md")
    )


def prediction(facts: RunFacts) -> Answer:
    """How a new image is judged."""
    return Answer(
        "Predictions come from the saved network and preprocessing: `raylight predict RUN IMAGE`, in Python "
        "`raylight.load(RUN).predict(images)`, or a file for other programs by `raylight export`.",
        (*WEIGHTS, "model_card.md"),
    )


def updating(facts: RunFacts) -> Answer:
    """Whether the model was changed after it had been tested, as ``raylight resume RUN trainer.max_epochs=N`` does."""
    tested = tests_of(facts.run)
    if len(tested) < 2:
        return Answer("None: the model was not changed after it was evaluated on test images.", (LOOKS_FILE,))
    times = "once" if len(tested) == 2 else f"{len(tested) - 1} times"
    epochs = " and ".join(map(str, tested))
    return Answer(
        f"The model was trained further {times} after it had been evaluated on test images, and evaluated on them again (after "
        f"{epochs} epochs); the results are of the last evaluation.",
        (LOOKS_FILE, "metrics.json"),
    )


def bad_input(facts: RunFacts) -> Answer:
    """What happens to images that can't be judged."""
    told = ["A file that can't be decoded is refused with its reason; it gets no class."]
    if facts.metrics.get("unknown"):
        told.append("An image unlike all training images is refused, too (decision.unknown).")
    if facts.metrics.get("abstention"):
        told.append("No class is given where it would be too uncertain (decision.abstain).")
    return Answer(" ".join(told), ("rejected.csv", "metrics.json"))


def indeterminate(facts: RunFacts) -> Answer:
    """Whether images may remain without a class."""
    if facts.metrics.get("abstention") or facts.metrics.get("unknown"):
        return bad_input(facts)
    return Answer(
        "The network gives each image a class: there are no indeterminate results of it.", ("predictions.csv",)
    )


def blinded(facts: RunFacts) -> Answer:
    """What the network knew of the test images."""
    return Answer(
        "The network sees pixels alone, no clinical facts; the classes of test images were used for measuring only.",
        ("predictions.csv", "metrics.json"),
    )


def fairness(facts: RunFacts) -> Answer | None:
    """Approaches to fairness; unknown where training calls code of the user's own."""
    if facts.config.loss._target_ or facts.config.callbacks:
        return None
    judged = "subgroups were judged separately" if (facts.run / "subgroups.csv").is_file() else "no subgroup was judged"
    return Answer(
        f"No approach to fairness was used in training or in decisions; {judged}.", ("config.yaml", "subgroups.csv")
    )


def stored(facts: RunFacts) -> Answer:
    """What is kept of the outputs."""
    return Answer(
        f"The probabilities and the class of each image are stored ({by_class(facts, 'test')} in test), and each look at the "
        f"test images is counted ({facts.looks} so far).",
        ("predictions.csv", "looks.csv"),
    )


MODEL_ANSWERS: dict[str, Callable[[RunFacts], Answer | None]] = {
    answer.__name__: answer
    for answer in (
        *(
            technology,
            model,
            output,
            threshold,
            software,
            initialization,
            training,
            augmentation,
            selection,
            ensembling,
        ),
        *(repeat, availability, prediction, updating, bad_input, indeterminate, blinded, fairness, stored),
    )
}
"""By the name that the standards use."""
