"""What is a URI, and what is a path."""

import pytest

from raylight.config.uris import is_uri


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("s3://bucket/photos", True),
        ("file:///data/photos", True),
        ("GS://bucket", True),
        ("/data/photos", False),
        ("photos", False),
        ("C:/photos", False),
        ("s3:/photos", False),
        ("s3://", False),
        ("photos/s3://x", False),
    ],
)
def test_a_uri_has_a_scheme_and_something_behind_it(text: str, uri: bool) -> None:
    assert is_uri(text) is uri
