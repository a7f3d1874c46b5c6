"""Quoting texts for Hydra's override grammar and for config files."""

import re
from collections.abc import Mapping
from typing import Any


def quoted(text: str) -> str:
    r"""Quotes a text, so that Hydra and OmegaConf read it literally.

    Args:
        text: with any characters.

    Returns:
        The text in quotes, with escapes.

    Example:
        >>> print(quoted("/a=b/it's/${c}"))
        '/a=b/it\'s/\${c}'
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(escaped(text), Quote.single).with_quotes()


def escaped(text: str) -> str:
    r"""Escapes a text for OmegaConf, so that ``${`` isn't read as an interpolation.

    Args:
        text: with any characters.

    Returns:
        The text with backslashes.

    Example:
        >>> print(escaped("/a/${b}"))
        /a/\${b}
    """
    # Backslashes only have a meaning before ``${``, where they must be doubled.
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Formats resolved settings as YAML, from which OmegaConf reads the same values, whatever characters they have."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(_all_escaped(dict(settings))))


def _all_escaped(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _all_escaped(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_all_escaped(value) for value in node]
    return escaped(node) if isinstance(node, str) else node
