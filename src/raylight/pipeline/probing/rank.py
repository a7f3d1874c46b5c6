"""``raylight rank``: which pretrained network is best, before any of them is trained.

Train and validation images are classified by a linear model on a network's features, by leave-one-out cross-validation
(``leave_one_out``). A race (``race``) drops weak networks on subsets. The features are cached for later runs,
``raylight labels`` and ``raylight more``.
"""

import json
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raylight.errors import ConfigError, DataError, WeightsError, first_line
from raylight.installation import TRAIN
from raylight.pipeline.probing.networks import Candidate, candidates
from raylight.pipeline.probing.ranking import Ranked, Ranking
from raylight.pipeline.probing.settings import as_settings, probe_configs, value_of, without

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

    from raylight.config.schema import RunConfig
    from raylight.pipeline.probing.probes import ProbedImages
    from raylight.pipeline.probing.race import Standing

log = logging.getLogger("raylight")

CHOSEN_HERE = ("model", "model.name", "model.family", "model._target_", "finetune")
"""Settings that rank sets itself."""
KEPT = 6
"""Maximum number of networks in memory; others are rebuilt when they are needed again."""
ALL_RANKED, SOME_REFUSED = 0, 1


def rank_networks(words: Sequence[str], out: Path | None) -> int:
    """Rank, print the table, write ``ranking.csv`` and ``ranking.json``.

    Args:
        words: settings, ``models=NAME,NAME`` among them, or a folder of images.
        out: folder for the files; None prints only.

    Returns:
        0 if all networks were ranked, 1 if some can't be probed.

    Raises:
        RaylightError: the settings, the images or the weights can't be used.
    """
    found = ranked(words, "auto")
    lines = [str(found)]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        found.table.to_csv(out / "ranking.csv", index=False)
        facts = {**asdict(found), "sentence": found.sentence}
        (out / "ranking.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        lines += [str(out / "ranking.csv"), str(out / "ranking.json")]
    sys.stdout.write("\n".join(lines) + "\n")
    return SOME_REFUSED if found.refused else ALL_RANKED


def ranked(words: Sequence[str], progress: str) -> Ranking:
    """Rank networks by leave-one-out accuracy of a linear head on their features.

    Args:
        words: settings, ``models=NAME,NAME`` among them, or a folder of images.
        progress: ``auto``, ``lines`` or ``off``.

    Raises:
        RaylightError: the settings, the images or the weights can't be used.
    """
    begin = time.perf_counter()
    settings = as_settings(words)
    if filled := [key for key in CHOSEN_HERE if value_of(settings, key) is not None]:
        raise ConfigError([f"{key}: rank sets it; the networks to rank are models=NAME,NAME" for key in filled])
    named = [name.strip() for name in (value_of(settings, "models") or "").strip("[]").split(",") if name.strip()]
    chosen_networks = candidates(named, value_of(settings, "model.weights"))
    data = without(settings, "models", "model.weights")
    configs = probe_configs([f"trainer.progress={progress}", *data], chosen_networks)
    from raylight.pipeline.probing.probes import probed_images

    with probed_images(configs, with_test=False) as images:
        rounds = _Rounds(configs, images)
        found = [(one, rounds.first(number)) for number, one in enumerate(chosen_networks)]
        first_looks = {number: facts for number, (_, facts) in enumerate(found) if not isinstance(facts, str)}
        refused = tuple((one.name, why) for one, why in found if isinstance(why, str))
        if not first_looks:
            raise WeightsError("None of the networks can be probed: " + "; ".join(map(": ".join, refused)))
        rows, leader = _rows(chosen_networks, first_looks, rounds.raced(first_looks), images)
    command = " ".join([TRAIN, *map(shlex.quote, data), leader.typed])
    return Ranking(rows, len(images.part), command, round(time.perf_counter() - begin, 1), refused)


@dataclass(frozen=True, eq=False)
class _FirstLook:
    """A candidate after the first round of the race.

    Attributes:
        features: of the first round's images.
        images_per_second: through the frozen layers.
        parameters: of all layers.
    """

    features: "Float[np.ndarray, 'image feature']"
    images_per_second: float
    parameters: int


class _Rounds:
    """Evaluates candidates on growing subsets; few networks are in memory at a time."""

    def __init__(self, configs: Sequence["RunConfig"], images: "ProbedImages") -> None:
        from raylight.pipeline.probing.probes import probe_of
        from raylight.pipeline.probing.race import looks, mixed_order

        self.images, self.targets, self.n_classes = images, images.targets, len(images.part.class_names)
        self.sizes, self.order = looks(len(self.targets), self.n_classes), mixed_order(self.targets, 0)
        self._probe = lru_cache(KEPT)(
            lambda number: probe_of(configs[number], images, number, lambda done, total: None)
        )

    def first(self, number: int) -> _FirstLook | str:
        """Evaluate a candidate in the first round; the reason, if it can't be probed."""
        try:
            probe = self._probe(number)
        except ConfigError as error:
            return "; ".join(error.problems)
        except WeightsError as error:
            return first_line(error)
        features = probe.features(self.order[: self.sizes[0]])
        return _FirstLook(features, probe.images_per_second(), probe.parameters)

    def raced(self, first_looks: dict[int, _FirstLook]) -> dict[int, "Standing"]:
        """Run the race of the candidates that can be probed."""
        from raylight.models.leave_one_out import leave_one_out
        from raylight.pipeline.probing.race import race

        numbers, groups = list(first_looks), self.images.groups

        def evaluate(position: int, chosen: "Int64[np.ndarray, ' image']") -> "Bool[np.ndarray, ' image']":
            number, looked = numbers[position], self.targets[chosen]
            is_first = len(chosen) == self.sizes[0]
            features = first_looks[number].features if is_first else self._probe(number).features(chosen)
            try:
                return leave_one_out(features, looked, self.n_classes, groups[chosen]).right(looked)
            except ValueError as error:
                raise DataError(
                    f"{len(chosen)} of the images are of one patient or picture, so none can be classified by others"
                ) from error

        return dict(zip(numbers, race(len(numbers), self.sizes, self.order, groups, evaluate), strict=True))


def _rows(
    chosen_networks: Sequence[Candidate],
    first_looks: dict[int, _FirstLook],
    standings: dict[int, "Standing"],
    images: "ProbedImages",
) -> tuple[tuple[Ranked, ...], Candidate]:
    """The rows of the table and the leader; of equal candidates the faster one leads."""
    from raylight.evaluation.differences.paired import holm, proportion_difference
    from raylight.evaluation.intervals import proportion
    from raylight.pipeline.probing.race import mixed_order

    order = mixed_order(images.targets, 0)
    speeds = {number: facts.images_per_second for number, facts in first_looks.items()}
    ranked_ones = sorted(standings, key=lambda one: (-standings[one].n, -standings[one].accuracy, -speeds[one]))
    leader = standings[ranked_ones[0]]
    differences = {}
    for number in ranked_ones[1:]:
        n = standings[number].n
        groups = images.groups[order[:n]]
        differences[number] = proportion_difference(leader.right[n], standings[number].right[n], groups)
    corrected = dict(zip(differences, holm([each.p_value for each in differences.values()]), strict=True))
    rows = []
    for number in ranked_ones:
        one, standing, against = chosen_networks[number], standings[number], differences.get(number)
        bounds = proportion(standing.right[standing.n], images.groups[order[: standing.n]])
        rows.append(
            Ranked(
                network=one.name,
                weights="random" if one.weights is None else "pretrained" if one.weights == "DEFAULT" else one.weights,
                accuracy=standing.accuracy,
                low=bounds.low,
                high=bounds.high,
                images=standing.n,
                difference=against.value if against else 0.0,
                difference_low=against.low if against else 0.0,
                difference_high=against.high if against else 0.0,
                p=corrected.get(number, 1.0),
                images_per_second=speeds[number],
                parameters=first_looks[number].parameters,
                stopped=standing.stopped,
            )
        )
    return tuple(rows), chosen_networks[ranked_ones[0]]
