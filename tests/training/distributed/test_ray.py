"""How many CPUs each of Ray's workers gets."""

import pytest

import tests.forked  # noqa: F401 - the fork server shall have imported what all tests need
from raylight.config.schema import TrainerConfig
from raylight.errors import RaylightError
from raylight.training.distributed.ray import _cpus_a_worker


@pytest.mark.parametrize(
    ("workers", "cores", "cpus"), [(2, [2], 1), (2, [2, 2], 2), (3, [2, 2], 1), (3, [8, 2], 2), (1, [3, 5], 5)]
)
def test_workers_get_the_most_cpus_with_which_all_find_room(workers: int, cores: list[int], cpus: int) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": float(n)}} for n in cores]
    assert _cpus_a_worker(TrainerConfig(launcher="ray", num_workers=workers), nodes) == cpus


def test_workers_without_room_are_refused_instead_of_waited_for() -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]
    with pytest.raises(RaylightError, match=r"num_workers=3 needs a CPU for each .* has 2 CPUs on 1 node\. Lower"):
        _cpus_a_worker(TrainerConfig(launcher="ray", num_workers=3), nodes)
    with pytest.raises(RaylightError, match=r"a CPU and a GPU for each .* has 2 CPUs and 0 GPUs"):
        _cpus_a_worker(TrainerConfig(launcher="ray", accelerator="gpu"), nodes)
