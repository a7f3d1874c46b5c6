"""Names short enough for an axis, and pyplot left alone."""

import subprocess
import sys

from raylight.report.figures.style import shortened


def test_shortened_names_stay_different():
    assert shortened(["cat", "dog"], 10) == ["cat", "dog"]
    assert shortened(["Labrador retriever", "Golden retriever"], 10) == ["Labra…ever", "Golde…ever"]
    assert shortened([f"retriever number {i} of all the ten" for i in range(3)], 19) == [
        "retriever number 0…",
        "retriever number 1…",
        "retriever number 2…",
    ]
    assert all(len(name) <= 12 for name in shortened([f"{'x' * 40}{i}" for i in range(20)], 12))


def test_drawing_leaves_pyplot_and_its_settings_alone(tmp_path):
    script = f"""
import sys
import matplotlib
# Reading the setting "backend" would choose one, and so import pyplot.
settings = lambda: {{key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}}
before = settings()
from raylight.report.figures.plots import *
import numpy as np
p = np.linspace(0.1, 0.9, 20)
names = [str(i) for i in range(20)]
test = Predictions(names, ["test"] * 20, np.arange(20) % 2, np.stack([1 - p, p], 1), ("a", "b"), "b")
draw_plots(Path({str(tmp_path)!r}), [], test)
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
assert settings() == before
"""
    subprocess.run([sys.executable, "-c", script], check=True)
