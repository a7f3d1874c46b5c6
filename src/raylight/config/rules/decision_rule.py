"""Reading ``decision.threshold``, the rule by which the decision threshold is chosen.

``evaluation.calibration`` applies it, on validation. Imports nothing heavy, because the check of a config reads it, too.
"""

import re
from dataclasses import dataclass

from raylight.errors import nearest

OBJECTIVES = ("youden", "f1", "cost")
CONSTRAINED = ("recall", "precision", "specificity")


@dataclass(frozen=True)
class DecisionRule:
    """How to choose the threshold on the probability of the positive class.

    Attributes:
        kind: ``fixed``, one of ``OBJECTIVES``, or one of ``CONSTRAINED``.
        value: the threshold itself (``fixed``), or the minimum of the constrained metric; ``None`` for an objective.
        text: as the user wrote it.
    """

    kind: str
    value: float | None
    text: str


def parse_rule(text: str) -> DecisionRule:
    """Reads a rule.

    Args:
        text: a number between 0 and 1, ``youden`` (recall + specificity - 1), ``f1``, ``cost``, or a minimum
            such as ``recall>=0.95`` of recall, precision or specificity.

    Returns:
        The rule.

    Raises:
        ValueError: the text is no rule; the message names the possible ones.

    Example:
        >>> parse_rule("recall >= 0.95")
        DecisionRule(kind='recall', value=0.95, text='recall >= 0.95')
    """
    rule = str(text).strip().lower()
    if rule in OBJECTIVES:
        return DecisionRule(rule, None, text)
    if floor := re.fullmatch(r"([a-z_0-9]+)\s*>=\s*(.+)", rule):
        metric, number = floor[1], _number(floor[2])
        if metric not in CONSTRAINED:
            raise ValueError(
                f"threshold {text!r} sets a floor for {metric!r}{_nearest(metric, CONSTRAINED)}; "
                f"floors exist for {', '.join(CONSTRAINED)}"
            )
        if number is None or not 0 < number <= 1:
            raise ValueError(f"threshold {text!r}: a floor for {metric} lies above 0 and at most at 1")
        return DecisionRule(metric, number, text)
    number = _number(rule)
    if number is None:
        raise ValueError(
            f"threshold {text!r} is no rule{_nearest(rule, (*OBJECTIVES, *CONSTRAINED))}; write a number "
            f"between 0 and 1, {', '.join(OBJECTIVES)}, or a floor such as recall>=0.95"
        )
    if not 0 < number < 1:
        raise ValueError(f"threshold {text!r} would give every image the same class; it must lie between 0 and 1")
    return DecisionRule("fixed", number, text)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _nearest(word: str, names: tuple[str, ...]) -> str:
    close = nearest(re.split(r"\W", word)[0], names)
    return f" (did you mean {close!r}?)" if close else ""
