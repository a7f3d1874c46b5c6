"""The kinds of test sets that the study draws: size, prevalence, classes, groups, and how good the models are."""

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.coverage.populations import Model, Population

TWO, GOOD = Model(2.0), Model(2.5)


@dataclass(frozen=True)
class Setting:
    """A kind of test set.

    Attributes:
        name: as the table has it.
        population: where the images come from.
        n: how many.
        models: one for intervals, two for differences.
    """

    name: str
    population: Population
    n: int
    models: tuple[Model, ...]


def _two(positives: float, n: int, model: Model, **more: float) -> Setting:
    """Two classes; ``more`` are further fields of the population."""
    name = f"{n} images, {100 * positives:g} % positive, separation {model.separation:g}{_words(more)}"
    name += f", logits times {model.boast:g}" if model.boast != 1 else ""
    return Setting(name, Population(positives=positives, **more), n, (model,))  # type: ignore[arg-type]


def _many(k: int, each: int, model: Model, **more: float) -> Setting:
    """More classes, equally frequent."""
    name = f"{k} classes, {each} image{'s' * (each > 1)} per class{_words(more)}"
    return Setting(name, Population(k, **more), k * each, (model,))  # type: ignore[arg-type]


def _words(more: Mapping[str, float]) -> str:
    words = {
        "hopeless": lambda share: f", {100 * share:g} % of them hopeless",
        "drawn_mix": lambda _: ", class sizes fixed",
        "per_group": lambda size: f", in groups of {size:g}",
        "alike": lambda share: f" that share {100 * share:g} % of the noise",
    }
    return "".join(words[name](value) for name, value in more.items())


SINGLE = (
    _two(0.5, 12, TWO),
    _two(0.5, 40, TWO),
    _two(0.5, 200, TWO),
    _two(0.5, 2000, TWO),
    _two(0.5, 40, Model(4.0)),
    _two(0.5, 200, Model(4.0)),
    _two(0.1, 40, GOOD),
    _two(0.1, 100, GOOD),
    _two(0.1, 200, GOOD),
    _two(0.1, 200, Model(2.5, 2.0)),
    _two(0.1, 2000, GOOD),
    _two(0.02, 1000, GOOD),
    _two(0.3, 200, Model(4.0), hopeless=0.05),
    _two(0.1, 200, Model(4.0), hopeless=0.05),
    _two(0.3, 200, TWO, drawn_mix=0),
    _many(3, 20, GOOD),
    _many(5, 8, GOOD),
    _many(5, 40, GOOD),
    _many(20, 2, Model(3.0)),
    _many(20, 5, Model(3.0)),
    _many(20, 20, Model(3.0)),
    _many(100, 1, Model(3.5)),
    _many(20, 5, Model(3.0), drawn_mix=0),
    _two(0.3, 75, TWO, per_group=5, alike=0.5),
    _two(0.3, 150, TWO, per_group=5, alike=0.5),
    _two(0.3, 600, TWO, per_group=5, alike=0.5),
    _two(0.3, 150, TWO, per_group=5, alike=0.9),
    _many(5, 40, GOOD, per_group=5, alike=0.5),
)
"""Intervals of one run."""


def _pair(setting: Setting, second: Model, name: str) -> Setting:
    return Setting(f"{setting.name}; {name}", setting.population, setting.n, (*setting.models, second))


PAIRS = (
    *(
        _pair(one, one.models[0], "equal")
        for one in (
            _two(0.5, 40, TWO),
            _two(0.5, 200, Model(4.0)),
            _two(0.1, 100, GOOD),
            _two(0.1, 400, GOOD),
            _two(0.5, 2000, TWO),
            _many(5, 20, GOOD),
            _many(20, 2, Model(3.0)),
            _two(0.3, 150, TWO, per_group=5, alike=0.5),
        )
    ),
    _pair(_two(0.1, 400, GOOD), Model(2.5, 2.0), "the second too sure of itself"),
    _pair(_two(0.3, 200, TWO), Model(2.0, 1.0, 1.0), "the second says positive more often"),
    _pair(_two(0.5, 40, TWO), Model(3.0), "the second better"),
    _pair(_two(0.5, 200, TWO), Model(3.0), "the second better"),
    _pair(_two(0.5, 200, Model(4.0)), Model(4.4), "the second slightly better"),
    _pair(_two(0.1, 100, TWO), Model(3.0), "the second better"),
    _pair(_two(0.1, 400, TWO), Model(3.0), "the second better"),
    _pair(_many(5, 20, GOOD), Model(3.0), "the second better"),
    _pair(_two(0.3, 150, TWO, per_group=5, alike=0.5), Model(2.5), "the second better"),
)
"""Differences of two models; 0 lies within the truth of "equal", and of rankings where only the scale or threshold differs."""

SHIFTS = (_two(0.5, 100, TWO), _two(0.1, 200, GOOD), _many(5, 20, GOOD))
"""Shifts between two independent sets of images, the second twice as large."""

RULES = (
    ("recall>=0.95", 15),
    ("recall>=0.95", 60),
    ("specificity>=0.9", 30),
    ("precision>=0.8", 60),
    ("youden", 60),
    ("f1", 60),
)
"""Decision rules and the validation positives that they are chosen on, a third of the images."""
