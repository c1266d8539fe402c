"""The budget of bytes that callers make the server hold."""

from concurrent.futures import ThreadPoolExecutor

from resnet_server.batching.held_bytes import HeldBytes


def test_all_or_none_is_taken_and_what_comes_back_can_be_taken_again() -> None:
    budget = HeldBytes(10)
    assert budget.try_take(10)
    assert not budget.try_take(1)
    budget.give_back(4)
    assert not budget.try_take(5)
    assert budget.try_take(4)
    assert budget.held == 10


def test_many_threads_never_hold_more_than_the_budget() -> None:
    budget = HeldBytes(100)

    def take_and_give(_: int) -> bool:
        if not budget.try_take(7):
            return False
        within = budget.held <= budget.most
        budget.give_back(7)
        return not within

    with ThreadPoolExecutor(8) as threads:
        assert not any(threads.map(take_and_give, range(20_000)))
    assert budget.held == 0
