import subprocess
import sys

import pytest

from raylight.config.rules.decision_rule import parse_rule


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("0.5", "fixed", 0.5),
        (" .25 ", "fixed", 0.25),
        ("Youden", "youden", None),
        ("f1", "f1", None),
        ("cost", "cost", None),
        ("recall>=0.95", "recall", 0.95),
        ("precision >= 1", "precision", 1.0),
        ("specificity>=.9", "specificity", 0.9),
        ("recall>=1e-9", "recall", 1e-9),
        ("0.999999", "fixed", 0.999999),
        ("1e-9", "fixed", 1e-9),
    ],
)
def test_rules_that_are_understood(text, kind, value):
    rule = parse_rule(text)
    assert (rule.kind, rule.value, rule.text) == (kind, value, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "yuoden",
            r"'yuoden' is no rule \(did you mean 'youden'\?\); write a number between 0 and 1, youden",
        ),
        ("recall=0.95", r"is no rule \(did you mean 'recall'\?\).*a floor such as recall>=0.95"),
        ("recal>=0.9", r"floor for 'recal' \(did you mean 'recall'\?\); floors exist for recall, precision"),
        ("recall>=1.5", "a floor for recall lies above 0 and at most at 1"),
        ("recall>=lots", "a floor for recall lies above 0"),
        ("recall>=0", "a floor for recall lies above 0"),
        ("precision>=-0.5", "a floor for precision lies above 0"),
        ("f1>=0.5", "sets a floor for 'f1'; floors exist for recall, precision, specificity"),
        ("0", "would give every image the same class"),
        ("-0.1", "would give every image the same class"),
        ("7", "would give every image the same class"),
        ("1.0", "would give every image the same class; it must lie between 0 and 1"),
        ("nan", "must lie between 0 and 1"),
        ("", "is no rule; write a number"),
    ],
)
def test_rules_that_are_not_say_what_would_be(text, message):
    with pytest.raises(ValueError, match=message):
        parse_rule(text)


def test_reading_a_rule_imports_nothing_heavy():
    script = "import sys, raylight.config.rules.decision_rule; print({'numpy', 'scipy', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "set()"
