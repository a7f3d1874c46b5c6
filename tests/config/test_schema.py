"""What the schema computes from its settings."""

from dataclasses import is_dataclass
from typing import get_type_hints

import numpy as np

from raylight.config.schema import DataConfig, PhaseConfig, Range, RunConfig


def test_all_seeds_share_a_split_unless_it_is_to_follow_the_seed() -> None:
    assert {RunConfig(seed=seed).split_seed for seed in (1, 2, 7)} == {1}
    assert RunConfig(seed=7, data=DataConfig(split_seed=3)).split_seed == 3
    assert RunConfig(seed=7, data=DataConfig(split_seed=None)).split_seed == 7


def ranges() -> dict[str, Range]:
    """The range of each setting that has one, by dotted key."""
    found = {}
    for name, hint in get_type_hints(RunConfig, include_extras=True).items():
        inner = get_type_hints(hint, include_extras=True) if is_dataclass(hint) else {}
        for key, kind in {name: hint, **{f"{name}.{one}": two for one, two in inner.items()}}.items():
            for limit in getattr(kind, "__metadata__", ()):
                if isinstance(limit, Range):
                    found[key] = limit
    return found


def test_a_range_is_that_of_what_the_setting_counts() -> None:
    """A count begins with one, a position (or what may be left out) with zero, folds with two; shares end below or at one."""
    counts = {
        *("model.image_size", "model.resize_size", "data.limit", "decode.workers", "trainer.num_workers"),
        *("trainer.max_epochs", "trainer.batch_size", "trainer.threads", "trainer.patience", "trainer.limit_batches"),
    }
    positions = {
        *(
            "seed",
            "data.fold",
            "data.shuffle_buffer",
            "trainer.max_failures",
            "trainer.averaging_start",
            "finetune.views",
        ),
        *("decision.cost_miss", "decision.cost_false_alarm", "loss.focal_gamma"),
    }
    shares = {
        *("data.val_fraction", "data.test_fraction", "data.max_bad_fraction", "model.dropout", "model.conv_dropout"),
        *("loss.label_smoothing", "trainer.ema_decay"),
    }
    found = ranges()
    assert {key for key in counts if found[key].low == 1 and found[key].high > 1} == counts
    assert {key for key in positions if found[key].low == 0 and found[key].high >= 100} == positions
    assert {key for key in shares if found[key].low == 0 and 0.9 <= found[key].high <= 1} == shares
    assert (found["data.folds"].low, found["data.fold"].high) == (2, found["data.folds"].high - 1)
    # All of the data may be bad, and all of the old average kept; a dropout of all leaves nothing.
    assert {key for key in shares if found[key].high == 1} == {"data.max_bad_fraction", "trainer.ema_decay"}
    np.random.RandomState(int(found["seed"].high))  # the largest that numpy takes


def test_what_is_not_asked_for_is_not_done() -> None:
    run = RunConfig()
    assert (run.model.dropout, run.model.conv_dropout, run.loss.label_smoothing, run.loss.focal_gamma) == (0, 0, 0, 0)
    assert (run.loss.class_weights, run.trainer.averaging, run.trainer.averaging_start) == (None, "none", 0)
    assert (run.trainer.gradient_clip, run.trainer.patience, run.trainer.limit_batches) == (None, None, None)
    assert (run.data.limit, run.data.folds, run.data.download, run.data.medical) == (None, None, False, False)
    assert (run.trainer.num_workers, run.trainer.launcher, run.trainer.accelerator) == (1, "none", "cpu")
    assert (run.model.batch_norm, run.report.shortcuts, run.finetune.requires_weights) == (False, False, False)
    # A miss costs what a false alarm does; a phase trains all at one rate.
    assert run.decision.cost_miss == run.decision.cost_false_alarm == PhaseConfig().backbone_factor == 1
    # What protects is done unless it is switched off.
    assert run.data.group_duplicates
    assert run.decision.calibrate
    assert run.finetune.cache
    assert run.report.enabled
    assert run.report.plots
    assert run.report.gradcam
    assert run.logger.artifacts
