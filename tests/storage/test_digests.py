"""The checksum is that of coreutils, and the published one of a known text."""

import subprocess
from pathlib import Path

from raylight.storage.digests import file_sha256


def test_the_digest_is_the_published_one_and_coreutils(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert file_sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    file.write_bytes(bytes(range(256)) * 5000)  # more than one block
    told = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout
    assert file_sha256(file) == told.split()[0]
