"""Where files can be: folders of this machine, or what a URI names."""

import re

_URI = re.compile(r"[a-z][a-z0-9+.-]+://.", re.IGNORECASE)


def is_uri(text: str) -> bool:
    """Whether a place is a URI, such as ``s3://bucket/photos``, and not a path."""
    return _URI.match(text) is not None
