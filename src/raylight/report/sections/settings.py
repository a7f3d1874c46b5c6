"""The section on a run's settings: what was typed, what differs from the defaults, and all others."""

import json
from typing import Any

from raylight.config.schema import RunConfig
from raylight.report.facts import RunFacts


def asked(facts: RunFacts) -> dict[str, Any]:
    """Gather the command, the settings that were typed and those that differ from the defaults."""
    from omegaconf import OmegaConf

    defaults = OmegaConf.to_container(OmegaConf.structured(RunConfig), resolve=True)
    asked, usual = dict(_flat(facts.settings)), dict(_flat(defaults))
    typed = [text.lstrip("+~").partition("=")[0] for text in facts.overrides or []]
    changed = [
        {
            "group": key.rpartition(".")[0],
            "name": key.rpartition(".")[2],
            "value": _plain(value),
            "usual": _plain(usual.get(key)),
            "typed": any(name == key or name.startswith(f"{key}.") for name in typed),
        }
        for key, value in asked.items()
        if value != usual.get(key)
    ]
    return {
        "overrides": facts.overrides,
        "changed": changed,
        "notes": facts.config.notes,
        "all": [(key, _plain(value)) for key, value in asked.items()],
    }


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Settings by dotted name; lists and ``_target_`` nodes stay whole, except in ``model`` and ``loss``."""
    if not isinstance(value, dict) or not value or ("_target_" in value and prefix not in ("model", "loss")):
        return [(prefix, value)]
    return [pair for key, inner in value.items() for pair in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]


def _plain(value: Any) -> str:
    """Format a setting for display; a ``_target_`` node as a call."""
    if isinstance(value, dict) and "_target_" in value:
        arguments = [f"{k}={_plain(v)}" for k, v in value.items() if k not in ("_target_", "_partial_")]
        return f"{value['_target_']}({', '.join(arguments)})"
    if isinstance(value, dict):
        return " ".join(f"{k}={_plain(v)}" for k, v in value.items() if v is not None) or "{}"
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return ", ".join(map(_plain, value))
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
