"""What all requests together may hold."""

import asyncio

import pytest

from ddr_tf.serving.limits import Budget, BusyError, Hold


def test_large_requests_leave_room_for_small_ones():
    budget = Budget(1024)
    assert budget.max_request == 768
    assert [budget.is_small(size) for size in (16, 17)] == [True, False]
    assert budget.take_now(768, small=False)
    assert not budget.take_now(1, small=False)
    assert budget.take_now(256, small=True)
    assert not budget.take_now(1, small=True)
    budget.give_back(1024)
    assert budget.take_now(768, small=False)


def test_a_request_waits_until_another_lets_go():
    async def two():
        first, second = Hold(budget), Hold(budget)
        await first.resize(600)
        waiting = asyncio.create_task(second.resize(600))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await first.resize(100)
        await waiting
        first.let_go()
        second.share()  # a thread works for it
        second.let_go()
        assert not budget.take_now(200, small=False)
        second.let_go()
        assert budget.take_now(768, small=False)

    budget = Budget(1024)
    asyncio.run(two())


def test_one_that_no_longer_waits_takes_nothing():
    async def three():
        first, second, third = Hold(budget), Hold(budget), Hold(budget)
        await first.resize(700)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.resize(700), 0.01)
        second.let_go()
        waiting = asyncio.create_task(third.resize(700))
        await asyncio.sleep(0.01)
        first.let_go()
        await asyncio.wait_for(waiting, 1)

    budget = Budget(1024)
    asyncio.run(three())


def test_what_arrives_does_not_wait():
    budget = Budget(1024)
    hold = Hold(budget)
    hold.grow_now(700)
    with pytest.raises(BusyError, match="try again later"):
        hold.grow_now(100)
    hold.let_go()
    Hold(budget).grow_now(700)
