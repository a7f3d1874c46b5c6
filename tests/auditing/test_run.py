"""An audit of a run: what its network relies on."""

import json
import subprocess
import sys
from pathlib import Path

from tests.auditing.test_commands import Command


def test_a_run_is_asked_what_it_relies_on(raylight: Command, copied_run: Path) -> None:
    before = (copied_run / "metrics.json").read_bytes()

    done = raylight("audit", copied_run)

    assert done.exit_code in (0, 1), done.output
    found = json.loads((copied_run / "shortcuts.json").read_text())
    assert [check["name"] for check in found["checks"]][:4] == ["centre_black", "border_only", "coarse", "histogram"]
    metrics = json.loads((copied_run / "metrics.json").read_text())
    # Blocks of another size round differently, so that an image on the edge may be decided otherwise.
    assert abs(found["real"]["value"] - metrics["test/accuracy"]["value"]) <= 1 / 24 + 1e-9
    assert (copied_run / "metrics.json").read_bytes() == before  # a finished result isn't edited
    assert (copied_run / "looks.csv").read_text().splitlines()[-1].endswith(",audit")
    assert done.exit_code == any(check["suspicious"] for check in found["checks"])
    for check in found["checks"]:
        assert check["low"] <= check["value"] <= check["high"]
        assert check["sentence"] in done.stdout.replace("\n", " ")


def test_a_run_keeps_the_audit_of_its_data(run: Path) -> None:
    audit = json.loads((run / "audit.json").read_text())
    assert audit["files"] == 81
    assert [finding["kind"] for finding in audit["findings"] if finding["severity"] != "note"] == ["not_an_image"]
    assert set(audit["counts"]["left"]) == {"train", "val", "test"}


def test_a_run_that_cannot_be_written_is_audited_elsewhere(tmp_path: Path) -> None:
    """As a user who may not write there; for that, root becomes one. It is said before the run is opened."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "run").mkdir(mode=0o555)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom raylight.auditing.run import audit_run\n"
        "if os.getuid() == 0: os.setuid(54321)\n"
        "audit_run(Path(sys.argv[1]), None)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True, check=False)
    assert f"{tmp_path / 'run'} is read-only here; name a folder for the result: --out FOLDER" in done.stderr
