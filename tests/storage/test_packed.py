"""Images of a source, by paths that are text."""

import pickle

import pytest

from raylight.config.rules.targets import ALLOWING
from raylight.errors import DataError
from raylight.storage.packed import NO_SIZE, NO_TIME, SourcePath
from raylight.storage.remote import to_path

NODE = {"_target_": "tests.data.packed.own.Drawn", "count": 6, "broken": [4]}


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWING, "tests")


def test_a_path_survives_text_and_pickle(trusted: None) -> None:
    root = SourcePath.of(NODE)
    image = root / "square/3"
    for again in (to_path(str(image)), pickle.loads(pickle.dumps(image))):
        assert again == image
        assert again.read_bytes()[:4] == b"\x89PNG"
    strange = root / "a b/ü?#%/c"
    assert to_path(str(strange)) == strange
    assert to_path(str(root)) == root


def test_it_is_asked_like_a_path(trusted: None) -> None:
    root = SourcePath.of(NODE)
    assert root.is_dir()
    assert (root / "square/3").is_file()
    assert not (root / "square/9").exists()
    assert (root / "square/3").name == "3"
    assert (root / "square/3").open("rb").read(4) == b"\x89PNG"
    assert sorted(root.entries()) == [f"square/{number}" for number in range(6)]
    assert (root / "square/0").stat()[1:] == (NO_SIZE, NO_TIME)
    with pytest.raises(FileNotFoundError):
        (root / "square/9").stat()
    with pytest.raises(OSError, match=r"Drawn\.read: KeyError: 'square/4'"):
        (root / "square/4").read_bytes()


def test_code_that_is_not_trusted_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of somebody else's names its source; opening it may not run what it names."""
    monkeypatch.delenv(ALLOWING, raising=False)
    fresh = SourcePath.of({**NODE, "count": 7})
    with pytest.raises(DataError, match=r"of the package 'tests' .*RAYLIGHT_ALLOWED_TARGETS=tests"):
        fresh.source()
    for target in ("torch.load", "os.system", "raylight.storage.atomic.write_atomically"):
        with pytest.raises(DataError):
            (SourcePath.of({"_target_": target, "f": "x"}) / "x").read_bytes()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "tests.data.packed.own.Nothing"}, "which can't be imported"),
        ({"_target_": "tests.data.packed.own.Drawn"}, "TypeError: .*count"),
        ({"_target_": "tests.data.packed.own.np"}, "isn't a source: expected a class with the methods"),
    ],
)
def test_what_cannot_be_built_is_named(trusted: None, node: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SourcePath.of(node).source()
