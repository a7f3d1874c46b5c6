"""How many CPUs each of Ray's workers gets."""

import pytest

import tests.forked  # noqa: F401 - the fork server shall have imported what all tests need
from raylight.config.schema import TrainerConfig
from raylight.errors import RaylightError
from raylight.training.distributed.ray import _cpus_per_worker, _lost


@pytest.mark.parametrize(
    ("workers", "cores", "cpus"), [(2, [2], 1), (2, [2, 2], 2), (3, [2, 2], 1), (3, [8, 2], 2), (1, [3, 5], 5)]
)
def test_workers_get_the_most_cpus_with_which_all_find_room(workers: int, cores: list[int], cpus: int) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": float(n)}} for n in cores]
    assert _cpus_per_worker(TrainerConfig(launcher="ray", num_workers=workers), nodes) == cpus


def test_workers_without_room_are_refused_instead_of_waited_for() -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]
    with pytest.raises(RaylightError, match=r"num_workers=3 needs a CPU for each .* has 2 CPUs on 1 node\. Lower"):
        _cpus_per_worker(TrainerConfig(launcher="ray", num_workers=3), nodes)
    with pytest.raises(RaylightError, match=r"a CPU and a GPU for each .* has 2 CPUs and 0 GPUs"):
        _cpus_per_worker(TrainerConfig(launcher="ray", accelerator="gpu"), nodes)


@pytest.mark.parametrize(
    ("workers", "nodes", "cpus"),
    [
        (2, [(8, 2)], 4),
        (2, [(8, 1), (3, 1)], 3),  # a GPU each: one worker a node
        (1, [(2, 1), (16, 0)], 2),  # the node of many CPUs has no GPU
        (3, [(9, 2), (4, 1)], 4),
    ],
)
def test_workers_with_a_gpu_find_room_beside_one(workers: int, nodes: list[tuple[int, int]], cpus: int) -> None:
    alive = [{"Alive": True, "Resources": {"CPU": float(n), **({"GPU": float(g)} if g else {})}} for n, g in nodes]
    config = TrainerConfig(launcher="ray", num_workers=workers, accelerator="gpu")
    assert _cpus_per_worker(config, alive) == cpus
    with pytest.raises(
        RaylightError, match=f"Ray has {sum(n for n, _ in nodes)} CPUs and {sum(g for _, g in nodes)} GPUs"
    ):
        _cpus_per_worker(TrainerConfig(launcher="ray", num_workers=workers + 2, accelerator="gpu"), alive)


def test_why_workers_were_lost_is_told_with_the_way_on() -> None:
    assert "not replaced (process 1: killed). The run is complete up to its last epoch" in str(
        _lost("process 1: killed")
    )
    assert "not replaced (they ended without a result)" in str(_lost(None))
