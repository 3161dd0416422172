"""Which record is given up after which deaths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine.executors.probe import InHand
from aiostream_engine.executors.process.suspicion import Suspicion, Verdict


def hand(call: int, *, tolerant: bool = True, checksum: int | None = None) -> InHand:
    return InHand("step", tolerant, call, checksum, None)


def test_a_first_attempt_is_not_watched() -> None:
    assert Suspicion(3, 10).probe() is None


def test_a_record_in_hand_in_all_watched_deaths_is_given_up_at_the_last_attempt() -> None:
    """A3"""
    deaths = Suspicion(3, 10)
    assert deaths.add("SIGSEGV", None, hung=False) is Verdict.RETRY
    assert deaths.add("SIGSEGV", hand(5), hung=False) is Verdict.RETRY
    probe = deaths.probe()
    assert probe is not None
    assert (probe.suspect, probe.full) == (5, True)
    assert deaths.add("SIGSEGV", hand(5, checksum=77), hung=False) is Verdict.CONVICT
    probe = deaths.probe()
    assert probe is not None
    (convict,) = probe.convicts
    assert (convict.call, convict.checksum, convict.hung) == (5, 77, False)
    assert "SIGSEGV" in convict.message
    assert (probe.suspect, probe.full) == (0, False)


def test_without_a_record_in_hand_the_job_fails_at_its_last_attempt() -> None:
    """A3: so does one whose step has no policy."""
    for last in (None, hand(1, tolerant=False)):
        deaths = Suspicion(3, 10)
        verdicts = [deaths.add("SIGKILL", last, hung=False) for _ in range(3)]
        assert verdicts == [Verdict.RETRY, Verdict.RETRY, Verdict.FAIL]


def test_writing_all_down_is_left_out_where_time_was_short() -> None:
    """A8"""
    deaths = Suspicion(2, 10)
    deaths.add("deadline", None, hung=True)
    probe = deaths.probe()
    assert probe is not None
    assert not probe.full


@given(
    st.integers(1, 6),
    st.integers(0, 4),
    st.lists(st.one_of(st.none(), st.builds(hand, st.integers(1, 4), tolerant=st.booleans())), max_size=200),
)
def test_deaths_are_bounded_whatever_is_in_hand(
    attempts: int, records: int, hands: list[InHand | None]
) -> None:
    """A3: no history of deaths is endless, and no record is convicted for fewer than were asked for."""
    deaths = Suspicion(attempts, records)
    last = Verdict.RETRY
    since: list[int] = []
    for item in hands:
        last = deaths.add("x", item, hung=False)
        if item is not None and item.tolerant:
            since.append(item.call)
        if last is Verdict.CONVICT:
            assert since.count(deaths.convicts[-1].call) >= max(1, attempts - 1)
            since = []
        if last is Verdict.FAIL:
            break
    assert len(deaths.convicts) <= records
    assert deaths.died <= 2 * attempts * (records + 1)
    if len(hands) > 2 * attempts * (records + 1):
        assert last is Verdict.FAIL
