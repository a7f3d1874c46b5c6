"""A sweep's table in its files: numbers, failures, what is told beside them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from raylight.comparison.sweep.files import flat_rows, markdown, write_sweep
from raylight.comparison.sweep.table import sweep_table
from tests.comparison.jobs import job


def test_the_files_hold_the_numbers_and_the_failures(sweep: Path) -> None:
    table = sweep_table(sweep)
    files = write_sweep(table)
    with files["csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["cnn2", "cnn5"]
    assert float(rows[0]["test/accuracy"]) == pytest.approx(0.9)
    assert float(rows[0]["test/auroc_sd"]) == pytest.approx(0.02)
    assert (rows[0]["parameters"], rows[0]["peak_memory_gb"]) == ("108", "1.5")
    assert float(rows[0]["training_seconds"]) == pytest.approx(11)
    assert rows[1]["failures"] == "seed=3: failed: <b>a|b</b>: too small c: too large"
    text = files["md"].read_text()
    assert "| model=cnn2 | 3 | 0.900 ± 0.020<br>" in text
    assert "- **model=cnn5** seed=3: failed: <b>a|b</b>: too small" in text
    rows_of_latex = [line.split(" & ") for line in files["tex"].read_text().splitlines() if line.startswith("model=")]
    assert [row[0] for row in rows_of_latex] == ["model=cnn2", "model=cnn5"]
    assert any(cell.startswith(r"0.900 $\pm$ 0.020, ") for cell in rows_of_latex[0])
    page = files["html"].read_text()
    assert "&lt;b&gt;a|b&lt;/b&gt;: too small" in page
    assert "<b>a|b</b>" not in page
    assert "1 without a result" in page
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
    assert (sweep / "accuracy_time.png").is_file()
    assert (sweep / "accuracy_parameters.png").is_file()


def test_medical_data_and_pruned_trials_are_told(sweep: Path) -> None:
    assert "Research only" not in write_sweep(sweep_table(sweep))["html"].read_text()
    (sweep / "2-demo-cnn2" / "config.yaml").write_text("data: {medical: true}\n")
    (sweep / "optuna.yaml").write_text(
        "direction: minimize\nbest_value: 0.25\nbest_params: {optimizer.lr: 0.01}\npruned_after_epoch: {3: 1, 5: 4}\n"
    )
    page = write_sweep(sweep_table(sweep))["html"].read_text()
    assert "<strong>Research only.</strong>" in page
    assert "job 3 (epoch 2), 5 (epoch 5)" in page
    assert "best was optimizer.lr=0.01, with 0.2500" in page


def test_a_sweep_without_any_result_still_has_its_table(tmp_path: Path) -> None:
    job(tmp_path, 0, "model=cnn2", accuracy=None, reason="There are no test images")
    table = sweep_table(tmp_path)
    files = write_sweep(table)
    assert "There are no test images" in files["html"].read_text()
    assert flat_rows(table)[0]["test/accuracy"] is None
    assert "| as configured | 0 of 1 | – |" in markdown(table)


def test_two_runs_are_drawn_themselves_and_a_third_is_told(tmp_path: Path) -> None:
    for number, accuracy in enumerate((0.7, 0.8)):
        job(tmp_path, number, f"seed={number}", accuracy=accuracy)
    table = sweep_table(tmp_path)
    accuracy = table.rows[0].metrics["accuracy"]
    assert accuracy.worth_another is not None
    half = t.ppf(0.975, 2) * np.std([0.7, 0.8], ddof=1) / 3**0.5
    assert accuracy.worth_another.low == pytest.approx(0.75 - np.hypot(half, 0.05))
    assert f"with a third:<br>{accuracy.worth_another.low:.3f} to" in markdown(table)
    page = write_sweep(table)["html"].read_text()
    assert page.count('<s class="run"') == 2
    assert "<i style" not in page
    job(tmp_path, 2, "seed=2", accuracy=0.75)
    page = write_sweep(sweep_table(tmp_path))["html"].read_text()
    assert page.count('<s class="run"') == 3
    assert page.count("<i style") == 1
