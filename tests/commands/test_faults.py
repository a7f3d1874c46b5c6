"""Real faults on a real run; all of them are caused by ``experiments/reliability/faults.py``, which the soak runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from experiments.reliability.commands import Commands
from experiments.reliability.faults import Faults, NotPermittedError

from tests.forked import ROOT, run_forked


class Forked(Commands):
    """Commands in processes that needn't import the libraries again."""

    def run(
        self, *words: str, before: Callable[[], None] | None = None, prefix: tuple[str, ...] = ()
    ) -> tuple[int, str]:
        assert before is None
        assert prefix == ()
        done = run_forked(ROOT / "train.py", words, self.folder, self.variables, timeout=500)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults(tmp_path_factory.mktemp("faults"), Forked)


@pytest.mark.parametrize("fault", ["read_only_working_directory", "disk_full_while_training"])
def test_a_fault_ends_in_a_sentence_and_what_was_done_is_not_lost(fault: str, faults: Faults, tmp_path: Path) -> None:
    try:
        assert faults.all()[fault]().exit_code == 1
    except NotPermittedError as reason:
        pytest.skip(str(reason))
