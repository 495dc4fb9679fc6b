"""What waits to be sent: every record once, in order, in batches that rota takes."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from rota.protocol import MAX_BODY_BYTES, PushRequest
from rota.sdk.push import Outbox
from tests.unit.sdk_peer import PROFILE

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 3_000), st.integers(1, 1_200)),
        st.tuples(st.just("put"), st.integers(100_000, 400_000), st.integers(1, 4)),
        st.tuples(st.sampled_from(["settle", "lose", "split"]), st.just(0), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_an_outbox_sends_every_record_once_in_order_in_batches_that_rota_takes(  # noqa: C901 - a small machine
    actions: list[tuple[str, int, int]],
) -> None:
    outbox = Outbox(PROFILE, 7)
    put: list[int] = []
    stored: dict[int, list[int]] = {}

    def send(*, answered: bool) -> None:
        batch = outbox.batch()
        if batch is None:
            return
        assert len(batch.body) <= MAX_BODY_BYTES
        request = json.loads(batch.body)
        assert request["batch"] == batch.number
        assert len(request["records"]) == batch.count <= 1000
        stored.setdefault(batch.number, [record["n"] for record in request["records"]])
        if answered:
            outbox.settle(batch)

    for action, size, count in actions:
        if action == "put":
            for _ in range(count):
                if outbox.has_room:
                    put.append(len(put))
                    outbox.put(json.dumps({"n": put[-1], "data": "x" * size}).encode())
        elif action == "split" and (batch := outbox.batch()) and batch.number not in stored and batch.count > 1:
            outbox.split(batch)
            assert (smaller := outbox.batch()) is None or smaller.count < batch.count
        elif action in {"settle", "lose"}:
            send(answered=action == "settle")
    while len(outbox):
        send(answered=True)
    assert [number for batch in sorted(stored) for number in stored[batch]] == put
    assert sorted(stored) == list(range(len(stored)))


@given(st.integers(1, 30), st.sets(st.integers(0, 40)))
def test_an_outbox_drops_the_refused_records_alone(count: int, refused: set[int]) -> None:
    outbox = Outbox(PROFILE, 7)
    for number in range(count):
        outbox.put(str(number).encode())
    batch = outbox.batch()
    assert batch
    within = {position for position in refused if position < count}
    dropped = outbox.refuse(batch, refused)
    assert dropped == outbox.dropped == (len(within) or count)
    left = outbox.batch()
    kept = json.loads(left.body)["records"] if left else []
    assert kept == ([number for number in range(count) if number not in within] if within else [])


def test_a_batch_that_was_on_its_way_when_the_outbox_was_closed_changes_nothing() -> None:
    outbox = Outbox(PROFILE, 7)
    outbox.put(b"1")
    batch = outbox.batch()
    assert batch
    assert outbox.close() == 1
    outbox.settle(batch)
    assert outbox.refuse(batch, ()) == 0
    outbox.put(b"2")
    assert len(outbox) == 0
    assert outbox.dropped == 2


def test_a_full_batch_is_a_request_that_the_protocol_allows() -> None:
    outbox = Outbox(PROFILE, 7)
    for _ in range(1500):
        outbox.put(b'{"kind":"record","at":null,"data":1}')
    batch = outbox.batch()
    assert batch
    assert len(PushRequest.model_validate_json(batch.body).records) == 1000
