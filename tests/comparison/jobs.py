"""Folders of a sweep's jobs, as the pipeline leaves them."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from raylight.config.rules.metric_names import METRICS
from raylight.runs.run_dir import RunDir


def job(
    sweep: Path,
    number: int,
    *overrides: str,
    accuracy: float | None = 0.9,
    reason: str | None = None,
    tested: str = "same",
    validation: tuple[str, float] | None = None,
) -> RunDir:
    """A job's folder, as the pipeline leaves it: finished with an accuracy, or failed with a reason."""
    run = RunDir(sweep / f"{number}-demo-cnn2")
    run.path.mkdir(parents=True)
    state = "finished" if accuracy is not None else "failed"
    run.write_json("overrides.json", list(overrides))
    run.write_json(
        "status.json", {"state": state, "stage": "testing", "seconds": 20.0, "reason": reason, "host": "h", "pid": 1}
    )
    if accuracy is not None:
        metrics = {
            f"test/{name}": {"value": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.03, "n": 60}
            for name in METRICS
        }
        provenance: dict[str, object] = {"test_files_sha256": tested}
        if validation is not None:
            provenance |= {"selected_by": validation[0], "selected_value": validation[1]}
            metrics["val/accuracy"] = {"value": accuracy - 0.1, "low": accuracy - 0.15, "high": accuracy, "n": 60}
        cost = {"seconds": {"training": 10.0 + number}, "peak_memory_gb": 1.5}
        run.write_json("metrics.json", {**metrics, "provenance": provenance, "cost": cost})
        tensors = {"conv.weight": torch.zeros(4, 3, 3, 3), "norm.running_mean": torch.zeros(4)}
        save_file({**tensors, "norm.num_batches_tracked": torch.tensor(1)}, run / "model.safetensors")
    return run
