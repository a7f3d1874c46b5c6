"""What the schema computes from its settings."""

from raylight.config.schema import DataConfig, RunConfig


def test_all_seeds_share_a_split_unless_it_is_to_follow_the_seed() -> None:
    assert {RunConfig(seed=seed).split_seed for seed in (1, 2, 7)} == {1}
    assert RunConfig(seed=7, data=DataConfig(split_seed=3)).split_seed == 3
    assert RunConfig(seed=7, data=DataConfig(split_seed=None)).split_seed == 7
