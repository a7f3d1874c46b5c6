"""What a user's own project is given: the schema of its option files."""

import json
import sys
from pathlib import Path

from raylight.config.rules.json_schema import json_schema
from raylight.storage.atomic import write_atomically


def schema_text() -> str:
    """The JSON Schema of all settings, as ``conf/schema.json`` has it."""
    return json.dumps(json_schema(), indent=1) + "\n"


def write_schema(out: Path | None) -> int:
    """Write the JSON Schema of all settings.

    Args:
        out: the file, whose folder is made; None: standard output.

    Returns:
        The exit code, 0.
    """
    if out is None:
        sys.stdout.write(schema_text())
        return 0
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, schema_text().encode())
    return 0
