"""From overrides that sweep to Optuna's distributions.

``a,b`` and ``choice(a, b)`` are choices, ``range(1, 9, 2)`` a grid of numbers, ``interval(1e-4, 1e-1)`` anything between
and ``int(interval(8, 64))`` any whole number; ``tag(log, ...)`` searches range and interval on a logarithmic scale.
"""

from typing import Any

from hydra.errors import HydraException


def distribution(override: Any) -> Any:
    """The distribution that a sweeping override stands for.

    Args:
        override: as Hydra's parser reads it.

    Raises:
        HydraException: an empty or unordered range.
    """
    import optuna
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    log = "log" in getattr(value, "tags", ())
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low or 0), float(high or 0), log=log)
        if isinstance(value, RangeSweep) and not value.shuffle:
            numbers = list(override.sweep_iterator())
            if not numbers:
                raise ValueError("it is empty")
            if all(isinstance(number, int) for number in numbers) and (len(numbers) == 1 or numbers[0] < numbers[1]):
                step = 1 if log or len(numbers) == 1 else numbers[1] - numbers[0]
                return IntDistribution(numbers[0], numbers[-1], step=step, log=log)
        return CategoricalDistribution([str(text) for text in override.sweep_string_iterator()])
    except (ValueError, optuna.exceptions.OptunaError) as error:
        raise HydraException(f"{override.input_line}: can't be searched ({error})") from error


def written(value: Any) -> str:
    """A suggested value as Hydra reads it: text of a choice as it was, numbers without loss."""
    return value if isinstance(value, str) else repr(value)
