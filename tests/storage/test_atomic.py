"""Files that appear whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raylight.errors import ConfigError
from raylight.storage.atomic import atomic_file, check_output, write_atomically


def test_a_file_is_replaced_whole_and_an_error_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert write_atomically(path, b"first") == path
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"second")
        assert path.read_bytes() == b"first"  # nobody meets half of it
    assert path.read_bytes() == b"second"

    def fails() -> None:
        with atomic_file(path) as temporary:
            temporary.write_bytes(b"half")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the test's own
        fails()
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["result.json"]  # noqa: PTH208
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "nowhere" / "result.json", b"")
    assert caught.value.filename == str(tmp_path / "nowhere" / "result.json")  # not the temporary name


def test_outputs_that_cannot_be_written_are_named_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_output("--out", tmp_path / "new" / "folder", is_folder=True)
    check_output("--out", tmp_path / "new.csv", is_folder=False)
    for path, is_folder, said in (
        (tmp_path / "file", True, f"--out: {tmp_path / 'file'} is a file; name a folder"),
        (tmp_path, False, f"--out: {tmp_path} is a folder; name a file"),
        (
            tmp_path / "file" / "x",
            True,
            f"can't be made, because {tmp_path / 'file'} isn't a folder; name another place",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            check_output("--out", path, is_folder=is_folder)
        assert said in str(caught.value)


def test_a_pipe_or_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(ConfigError, match="a device or a pipe, which would be replaced; name a file"):
            check_output("--out", path, is_folder=False)


def test_a_read_only_folder_is_named_before_the_work(tmp_path: Path) -> None:
    """As a user who may not write there; for that, root becomes one."""
    (tmp_path / "closed").mkdir(mode=0o555)
    for parent in tmp_path.parents[:3]:  # one more in a suite of several processes
        parent.chmod(parent.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom raylight.storage.atomic import check_output\n"
        "if os.getuid() == 0: os.setuid(54321)\n"
        "check_output('--out', Path(sys.argv[1], 'new', 'result'), is_folder=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "closed")], capture_output=True, text=True, check=False
    )
    place = tmp_path / "closed"
    assert f"{place}/new/result can't be written, because {place} is read-only here; name another place" in done.stderr
