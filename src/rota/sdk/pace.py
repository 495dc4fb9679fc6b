"""How long a bot waits: between beats, before it tries again, before it calls a work function again.

Every wait is spread by chance, so that a fleet that fell silent together does not come back in one moment.
"""

from __future__ import annotations

from random import SystemRandom

from rota.sdk.lease import Lease, now

BEAT_JITTER = 0.10
LONGEST_RESTART = 60.0
STEADY = 60.0
"""A work function that ran for so many seconds has not come back at once."""
LONGEST_RETRY = 60.0
"""Longest pause between two tries while nothing is at stake, in seconds."""
RETRY_SHARE = 1 / 6
"""Longest pause between two tries as a share of the ttl."""
LONGEST_WAIT = 55.0
WAIT_SHARE = 0.25
"""How long rota may hold a heartbeat of a bot at work as a share of the ttl: only its answer renews the lease."""
LONGEST_CALL = 10.0
CALL_SHARE = 0.25
"""Timeout of a call as a share of the ttl, so that several tries fit into a lease."""

# Not `random` itself: forked bots share the state of its generator and would all wait equally long.
_chance = SystemRandom()


def beat_delay(interval: float, ttl: float) -> float:
    """Seconds until the next beat: the interval ±10 %, and never so long that the lease could not be kept."""
    return _jittered(_usual_delay(interval, ttl))


def longest_wait(interval: float, ttl: float | None, *, at_work: bool) -> float:
    """Seconds that rota may hold a heartbeat: until the next is due, if one that gets lost can be made up for.

    Who works has a lease to lose. Who is idle has only to be heard before its deadline.
    """
    if ttl is None:
        return 0.0
    due = _jittered(_usual_delay(interval, ttl))
    room = _room_at_work(interval, ttl) if at_work else ttl - due - call_timeout(ttl)
    return max(0.0, min(LONGEST_WAIT, due, room))


def _room_at_work(interval: float, ttl: float) -> float:
    """For how long the next heartbeat may be held, if the lease still counts from this one.

    Where its answer is lost, the next try comes before the work is asked to stop. Where that is lost, too, the third
    still comes before the lease is over. With 30 and 90 s a quarter of the ttl is less than both allow: sent after 33 s
    at most and held for 22.5 s, a heartbeat has failed 10 s later, after 65.5 s; with pauses of 2 s and 4 s the
    second try begins after 67.5 s of 72, and the third after 81.5 s of 90.
    """
    lease, sent_at = Lease(0.0, ttl), (1 + BEAT_JITTER) * _usual_delay(interval, ttl)
    lost_once = call_timeout(ttl) + _longest_retry(1, ttl)
    lost_twice = lost_once + call_timeout(ttl) + _longest_retry(2, ttl)
    return min(WAIT_SHARE * ttl, lease.stop_at - sent_at - lost_once, lease.ends_at - sent_at - lost_twice)


def pause_after(interval: float, ttl: float, *, held: float) -> float:
    """Seconds until the next beat after one that rota held so long: none where that is an interval already.

    So a bot beats once in an interval on average, at work or not: the operator's budget counts on it.
    """
    usual = _usual_delay(interval, ttl)
    return 0.0 if held >= (1 - BEAT_JITTER) * usual else _jittered(usual) - held


def _usual_delay(interval: float, ttl: float) -> float:
    """Between two beats on average."""
    return min(max(interval, 0.05), ttl / 2)


def _jittered(seconds: float) -> float:
    return seconds * _chance.uniform(1 - BEAT_JITTER, 1 + BEAT_JITTER)


def call_timeout(ttl: float | None) -> float:
    """Seconds after which a call has failed."""
    return LONGEST_CALL if ttl is None else min(LONGEST_CALL, max(0.05, CALL_SHARE * ttl))


def retry_cap(ttl: float | None) -> float:
    """Longest pause between two tries, in seconds."""
    return LONGEST_RETRY if ttl is None else min(LONGEST_RETRY, RETRY_SHARE * ttl)


def retry_delay(failures: int, retry_after: float | None, ttl: float | None) -> float:
    """Seconds before try number `failures + 1`: what rota asked for, and full jitter above it.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    longest = retry_cap(ttl)
    asked = min(retry_after or 0.0, 0.75 * longest)
    spread = _longest_retry(failures, ttl)
    return asked + _chance.uniform(0, min(spread, longest - asked))


def _longest_retry(failures: int, ttl: float | None) -> float:
    """The longest pause after so many failures if rota asks for none."""
    longest = retry_cap(ttl)
    return min(longest, longest / 15 * 2.0 ** min(failures, 10))


def spread(seconds: float) -> float:
    """The same and up to a tenth more."""
    return seconds * _chance.uniform(1, 1 + BEAT_JITTER)


def restart_delay(times: int) -> float:
    """Seconds before work begins again that came back or crashed `times` times in a row: 1, 2, 4 … 60."""
    return min(LONGEST_RESTART, 2.0 ** min(times - 1, 10))


class Restarts:
    """Keeps a work function that comes back, or crashes, at once from being called in a hot loop."""

    def __init__(self) -> None:
        self._profile = ""
        self._returns = 0
        self._crashes = 0
        self._not_before = 0.0

    def ended(self) -> None:
        """It was told to stop, so nothing has to be held back."""
        self._profile, self._returns, self._crashes, self._not_before = "", 0, 0, 0.0

    def returned(self, profile: str, lasted: float) -> float:
        """It came back by itself after `lasted` seconds; the seconds until it may begin again."""
        again = profile == self._profile and lasted < STEADY
        self._profile, self._returns, self._crashes = profile, self._returns + 1 if again else 1, 0
        delay = restart_delay(self._returns)
        self._not_before = now() + delay
        return delay

    def crashed(self, lasted: float) -> float:
        """It raised; the seconds until this bot may be on the roster again."""
        self._crashes = self._crashes + 1 if lasted < STEADY else 1
        return restart_delay(self._crashes)

    def left(self, profile: str) -> float:
        """Seconds for which the work for this profile is still held back."""
        return max(0.0, self._not_before - now()) if profile == self._profile else 0.0

    def next_in(self) -> float:
        """Seconds until nothing is held back; 0 where nothing is."""
        return self.left(self._profile)
