"""How often each interval holds the truth, and how often each test accuses equal models: ``make coverage``.

Test sets are drawn from populations whose truth is known (``populations``) and judged by the product's own functions:
``evaluate``, ``compare``, ``shift`` and ``choose_threshold``. A row is a metric on a kind of test set. It is counted apart how
often the interval carried a caveat, because the bar, 93 to 97.5 %, is for those without. Writes ``results.md`` and
``results.csv`` beside this file. Leaves out what needs pictures or training.
"""

import argparse
import resource
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from experiments.coverage import chosen_best, recipes
from experiments.coverage.populations import Population
from experiments.coverage.settings import PAIRS, RULES, SHIFTS, SINGLE, TWO, Setting
from experiments.coverage.tables import Tally, report, write_csv

from raylight.config.rules.metric_names import METRICS
from raylight.evaluation.calibration import choose_threshold
from raylight.evaluation.differences.paired import compare
from raylight.evaluation.metrics import evaluate
from raylight.machine import usable_cpus
from raylight.serving.evaluate import shift

HERE = Path(__file__).parent

RESAMPLES = 400
"""Of the product's 2,000; more would move an interval's ends by less than a tenth of its width."""


def _generator(setting: Setting) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(setting.name.encode()))


def single(setting: Setting, sets: int) -> dict[str, Tally]:
    """Each metric's interval on one run's test set."""
    tallies = {name: Tally(value) for name, value in setting.population.truth(setting.models)[0].items()}
    rng = _generator(setting)
    for _ in range(sets):
        (predictions,) = setting.population.draw(setting.n, setting.models, rng)
        for name, one in evaluate(predictions, n_resamples=RESAMPLES).items():
            tallies[name].add(one.value, one.low, one.high, one.caveat)
    return tallies


def paired(setting: Setting, sets: int) -> dict[str, Tally]:
    """Each metric's difference of two models on the same test set."""
    if setting.models[0] == setting.models[1]:
        truths = dict.fromkeys(METRICS, 0.0)
    else:
        first, second = setting.population.truth(setting.models)
        truths = {name: second[name] - first[name] for name in METRICS}
    tallies = {name: Tally(truth) for name, truth in truths.items()}
    rng = _generator(setting)
    for _ in range(sets):
        first_seen, second_seen = setting.population.draw(setting.n, setting.models, rng)
        for name, one in compare(first_seen, second_seen, n_resamples=RESAMPLES).differences.items():
            tallies[name].add(one.value, one.low, one.high, one.caveat)
            tallies[name].test(one.p_value, one.low, one.high)
    return tallies


def shifted(setting: Setting, sets: int) -> dict[str, Tally]:
    """Each metric's shift between two independent test sets of one population; the truth is 0."""
    tallies = {name: Tally(0.0) for name in METRICS}
    rng = _generator(setting)
    for _ in range(sets):
        one, other = (
            evaluate(setting.population.draw(n, setting.models, rng)[0], n_resamples=RESAMPLES)
            for n in (setting.n, 2 * setting.n)
        )
        for name in METRICS:
            change = shift(one[name], other[name])
            tallies[name].add(change.value, *change.interval, one[name].caveat)
    return tallies


def chosen(rule: tuple[str, int], sets: int) -> dict[str, Tally]:
    """A rule's metric on validation, and what it is on a crowd at the threshold chosen."""
    text, positives = rule
    population = Population(positives=1 / 3)
    (crowd,) = population.draw(100_000, (TWO,), np.random.default_rng(3))
    truth_of, scores = crowd.labels == 1, crowd.probabilities[:, 1]
    rng, tally = np.random.default_rng(4), Tally(0.0)
    for _ in range(sets):
        (validation,) = population.draw(3 * positives, (TWO,), rng)
        decision = choose_threshold(validation, text)
        said = scores > (decision.threshold or 0.0)
        recall, specificity = said[truth_of].mean(), 1 - said[~truth_of].mean()
        precision = truth_of[said].mean() if said.any() else np.nan
        true = {
            "recall": recall,
            "specificity": specificity,
            "precision": precision,
            "youden": recall + specificity - 1,
            "f1": 2 * (said & truth_of).sum() / (said.sum() + truth_of.sum()),
        }[decision.metric]
        low, high = decision.interval
        tally.add(decision.value - float(true), low - float(true), high - float(true), None)
    return {text: tally}


def _best(pool: Executor, sets: int) -> Iterator[str]:
    """The tables of what choosing flatters."""
    configurations, sizes = chosen_best.CONFIGURATIONS, (60, 200)
    flattered = [pool.submit(chosen_best.flattery, k, n, sets) for k, n in configurations]
    folds = [
        (n, at_best, pool.submit(chosen_best.random_labels, n, 2 * sets, at_best))
        for n in sizes
        for at_best in (False, True)
    ]
    yield from ("## The best of equal configurations", "")
    yield from (
        "| configurations | validation images | flattered by | estimate printed | error |",
        "|--:|--:|--:|--:|--:|",
    )
    for (k, n), one in zip(configurations, (job.result() for job in flattered), strict=True):
        yield f"| {k} | {n} | {one.true:.3f} | {one.estimated:.3f} | ± {one.error:.3f} |"
    yield from ("", "## Cross-validation on random labels", "")
    yield from ("| images | folds joined at | mean accuracy | intervals that exclude one half |", "|--:|---|--:|--:|")
    for n, at_best, job in folds:
        found = job.result()
        where = "the best epoch on the images held out" if at_best else "the last epoch, as the product does"
        yield f"| {n} | {where} | {found.mean:.3f} ± {found.error:.3f} | {100 * found.excluding:.1f} % |"
    yield ""


def main() -> None:
    """Run the study and write its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=300, help="test sets of each kind")
    parser.add_argument(
        "--only",
        choices=["single", "paired", "shifted", "chosen", "recipes", "best"],
        help="one part; nothing is written",
    )
    sets, only = vars(arguments := parser.parse_args())["sets"], arguments.only
    begin = time.perf_counter()
    with ProcessPoolExecutor(usable_cpus()) as pool:
        jobs = {
            "single": [(one.name, pool.submit(partial(single, one, sets))) for one in SINGLE],
            "paired": [(one.name, pool.submit(partial(paired, one, sets))) for one in PAIRS],
            "shifted": [(one.name, pool.submit(partial(shifted, one, sets))) for one in SHIFTS],
            "chosen": [
                (f"{rule} on {n} positives", pool.submit(partial(chosen, (rule, n), 5 * sets))) for rule, n in RULES
            ],
        }
        parts = {}
        for part, submitted in jobs.items():
            if only in (None, part):
                parts[part] = {name: job.result() for name, job in submitted}
            else:
                for _, job in submitted:
                    job.cancel()
        lines = list(report(parts, sets))
        if only in (None, "recipes"):
            lines += ["## Recipes over seeds", "", *recipes.table(recipes.rows(pool, 40 * sets // 3)), ""]
        if only in (None, "best"):
            lines += list(_best(pool, sets))
    print("\n".join(lines))
    if only is None:
        minutes = (time.perf_counter() - begin) / 60
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        lines.append(
            f"\n{sets} test sets of each kind, {minutes:.0f} minutes on {usable_cpus()} cores "
            f"({(used.ru_utime + used.ru_stime) / 60:.0f} minutes of processor time)."
        )
        (HERE / "results.md").write_text("\n".join(["# Coverage, as measured", "", *lines]) + "\n", encoding="utf-8")
        write_csv(parts, HERE / "results.csv")


if __name__ == "__main__":
    main()
