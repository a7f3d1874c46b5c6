"""Any text as a value of Hydra's override grammar."""

import re


def quoted(text: str) -> str:
    r"""The text in quotes, so that Hydra and OmegaConf read it as it is, whatever characters it has.

    >>> print(quoted("/a=b/it's/${c}"))
    '/a=b/it\'s/\${c}'
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    # Backslashes count before ``${`` alone, which one of them keeps from being an interpolation.
    plain = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    return QuotedString(plain, Quote.single).with_quotes()
