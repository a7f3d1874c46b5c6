"""Broken files end in pixels or in a reason, in little time and memory; the long version is ``make fuzz``."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from experiments.reliability import fuzz
from experiments.reliability.mutations import MUTATIONS, Case, cases, drawn_files, real_files
from hypothesis import given, settings
from hypothesis import strategies as st

from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import BadImageError

FILES = drawn_files()
SPEC = DecodeSpec(64, "crop")
SIGNATURES = sorted({data[:12] for data in FILES.values()})


@pytest.mark.parametrize("name", FILES)
def test_what_is_mutated_is_whole_before(name: str) -> None:
    assert np.ptp(decode_image(FILES[name], SPEC)) > 100


def test_no_cut_no_lie_and_no_splice_is_taken_for_a_good_image() -> None:
    """300 inputs in workers that may take 1 GB; real photos and films among them where they are."""
    files = dict(FILES)
    if root := os.environ.get("RAYLIGHT_REAL_DATA"):
        files |= real_files(Path(root), 10)
    seen = list(fuzz.judged(cases(files, 300, np.random.default_rng(7)), workers=2))
    assert len(seen) == 300
    assert [(case.name, case.mutation, *verdict) for case, verdict in seen if verdict.end in fuzz.FAULTS] == []
    assert {verdict.end for _, verdict in seen} == {"pixels", "reason"}
    assert len({case.mutation.split(" after ")[0] for case, _ in seen}) == len(MUTATIONS) + 1


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    data=st.one_of(
        st.binary(max_size=2000),
        st.builds(bytes.__add__, st.sampled_from(SIGNATURES), st.binary(max_size=2000)),
        st.builds(
            lambda name, at, piece: FILES[name][: int(at * len(FILES[name]))] + piece + FILES[name][-40:],
            st.sampled_from(sorted(FILES)),
            st.floats(0, 1, exclude_max=True),
            st.binary(max_size=60),
        ),
    )
)
def test_whatever_the_bytes_there_are_pixels_or_a_reason(data: bytes) -> None:
    begin = time.thread_time()
    try:
        assert decode_image(data, SPEC).shape == (64, 64, 3)
    except BadImageError as error:
        reason = str(error)
    else:
        reason = "none"
    assert reason
    assert time.thread_time() - begin < fuzz.SECONDS


def crashing(data: bytes, spec: DecodeSpec) -> np.ndarray:
    if data == b"bad":
        os.abort()
    return decode_image(data, spec)


def greedy(data: bytes, spec: DecodeSpec) -> np.ndarray:
    if data == b"bad":
        np.ones(1_100_000_000, np.uint8)
    return decode_image(data, spec)


def slow(data: bytes, spec: DecodeSpec) -> np.ndarray:
    begin = time.process_time()
    while data == b"bad" and time.process_time() - begin < 2.1:
        pass
    return decode_image(FILES["png"], spec)


def gullible(data: bytes, spec: DecodeSpec) -> np.ndarray:
    return np.full((64, 64, 3), len(data) % 256, np.uint8)


@pytest.mark.parametrize(
    ("decoder", "end"), [(crashing, "crashed"), (greedy, "memory"), (slow, "slow"), (gullible, "wrong")]
)
def test_the_fuzzer_notices_a_bad_decoder_and_goes_on(decoder: object, end: str) -> None:
    inputs = [Case("a", "none", b"bad", FILES["png"]), Case("b", "none", FILES["png"], FILES["png"])]
    ends = [verdict.end for _, verdict in fuzz.judged(inputs, 1, f"{__name__}:{decoder.__name__}")]
    assert ends == [end, "pixels"]
