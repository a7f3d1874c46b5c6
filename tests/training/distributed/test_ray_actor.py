"""What the actor between Ray's workers and the driver keeps and carries, and what it says of lost workers."""

import asyncio

import pytest

from raylight.training.distributed.ray_actor import Mailbox, _named
from raylight.training.messages import File, LogLine


def test_messages_are_taken_once_in_their_order_and_checkpoints_are_kept() -> None:
    async def told() -> None:
        mailbox = Mailbox({"checkpoints/last.ckpt": b"old", "checkpoints/best.ckpt": b"best"})
        assert await mailbox.take(0.01) == []
        sent = [File("checkpoints/last.ckpt", b"new"), LogLine("raylight", 20, "x"), File("history.csv", b"epoch")]
        for message in sent:
            await mailbox.put(message)
        assert await mailbox.take(5.0) == sent
        assert await mailbox.take(0.01) == []
        assert await mailbox.checkpoints() == {"checkpoints/last.ckpt": b"new", "checkpoints/best.ckpt": b"best"}

    asyncio.run(told())


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ({}, "all processes"),
        ({1: RuntimeError("[gloo] Connection closed by peer")}, "all processes"),
        (
            {2: RuntimeError("worker died.\nand more"), 0: ValueError("no images..."), 1: RuntimeError("gloo")},
            "process 0: no images, process 2: worker died",
        ),
    ],
)
def test_who_lost_a_neighbour_is_no_news(failures: dict[int, BaseException], said: str) -> None:
    assert _named(failures) == said
