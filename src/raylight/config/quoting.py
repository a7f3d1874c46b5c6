"""Any text as a value of Hydra's override grammar, or of a config's file."""

import re
from collections.abc import Mapping
from typing import Any


def quoted(text: str) -> str:
    r"""The text in quotes, so that Hydra and OmegaConf read it as it is, whatever characters it has.

    >>> print(quoted("/a=b/it's/${c}"))
    '/a=b/it\'s/\${c}'
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(escaped(text), Quote.single).with_quotes()


def escaped(text: str) -> str:
    r"""The text as OmegaConf has to hold it, so that ``${`` isn't read as an interpolation.

    >>> print(escaped("/a/${b}"))
    /a/\${b}
    """
    # Backslashes count before ``${`` alone, which one of them keeps from being an interpolation.
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Resolved settings as YAML of which OmegaConf reads the same values again, whatever characters they have."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(_all_escaped(dict(settings))))


def _all_escaped(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _all_escaped(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_all_escaped(value) for value in node]
    return escaped(node) if isinstance(node, str) else node
