"""Telling URIs from local paths."""

import re

_URI = re.compile(r"[a-z][a-z0-9+.-]+://.", re.IGNORECASE)


def is_uri(text: str) -> bool:
    """Whether a text is a URI, such as ``s3://bucket/photos``, and not a local path."""
    return _URI.match(text) is not None
