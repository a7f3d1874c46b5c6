"""The settings of a run as its page shows them: what was typed, what that changed, what else holds."""

import json
from typing import Any

from raylight.config.schema import RunConfig
from raylight.report.facts import RunFacts


def asked(facts: RunFacts) -> dict[str, Any]:
    """The command, the settings that were typed and what differs from the defaults."""
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
    """Settings by dotted name; lists and ``_target_`` nodes stay whole, but sections that hold one beside settings of ours."""
    if not isinstance(value, dict) or not value or ("_target_" in value and prefix not in ("model", "loss")):
        return [(prefix, value)]
    return [pair for key, inner in value.items() for pair in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]


def _plain(value: Any) -> str:
    """A setting as people write it; a ``_target_`` node as the call that it stands for."""
    if isinstance(value, dict) and "_target_" in value:
        arguments = [f"{k}={_plain(v)}" for k, v in value.items() if k not in ("_target_", "_partial_")]
        return f"{value['_target_']}({', '.join(arguments)})"
    if isinstance(value, dict):
        return " ".join(f"{k}={_plain(v)}" for k, v in value.items() if v is not None) or "{}"
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return ", ".join(map(_plain, value))
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
