"""What waits in memory to be sent: every record once, in order, in batches that rota takes."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from rota.protocol import MAX_BODY_BYTES, PushRequest
from rota.sdk.outbox import Memory, Outbox
from tests.unit.sdk_peer import PROFILE


def new_outbox() -> Outbox:
    return Memory().open(PROFILE, 7)


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
async def test_an_outbox_sends_every_record_once_in_order_in_batches_that_rota_takes(  # noqa: C901 - a small machine
    actions: list[tuple[str, int, int]],
) -> None:
    outbox = new_outbox()
    put: list[int] = []
    stored: dict[int, list[int]] = {}

    async def send(*, answered: bool) -> None:
        batch = await outbox.batch()
        if batch is None:
            return
        assert len(batch.body) <= MAX_BODY_BYTES
        request = json.loads(batch.body)
        assert request["batch"] == batch.number
        assert len(request["records"]) == batch.count <= 1000
        stored.setdefault(batch.number, [record["n"] for record in request["records"]])
        if answered:
            await outbox.settle(batch)

    for action, size, count in actions:
        if action == "put":
            for _ in range(count):
                if outbox.has_room:
                    put.append(len(put))
                    outbox.put(json.dumps({"n": put[-1], "data": "x" * size}).encode(), waits=False)
        elif action == "split" and (batch := await outbox.batch()) and batch.number not in stored and batch.count > 1:
            await outbox.split(batch)
            assert (smaller := await outbox.batch()) is None or smaller.count < batch.count
        elif action in {"settle", "lose"}:
            await send(answered=action == "settle")
    while len(outbox):
        await send(answered=True)
    assert [number for batch in sorted(stored) for number in stored[batch]] == put
    assert sorted(stored) == list(range(len(stored)))


@given(st.integers(1, 30), st.sets(st.integers(0, 40)))
async def test_an_outbox_drops_the_refused_records_alone(count: int, refused: set[int]) -> None:
    outbox = new_outbox()
    for number in range(count):
        outbox.put(str(number).encode(), waits=False)
    batch = await outbox.batch()
    assert batch
    within = {position for position in refused if position < count}
    dropped = (await outbox.refuse(batch, refused, "no")).count
    assert dropped == outbox.dropped == (len(within) or count)
    left = await outbox.batch()
    kept = json.loads(left.body)["records"] if left else []
    assert kept == ([number for number in range(count) if number not in within] if within else [])


async def test_a_batch_that_was_on_its_way_when_the_outbox_was_closed_changes_nothing() -> None:
    outbox = new_outbox()
    outbox.put(b"1", waits=False)
    batch = await outbox.batch()
    assert batch
    assert outbox.abandon() == 1
    await outbox.settle(batch)
    assert (await outbox.refuse(batch, (), "no")).count == 0
    outbox.put(b"2", waits=False)
    assert len(outbox) == 0
    assert outbox.dropped == 2


async def test_a_full_batch_is_a_request_that_the_protocol_allows() -> None:
    outbox = new_outbox()
    for _ in range(1500):
        outbox.put(b'{"kind":"record","at":null,"data":1}', waits=False)
    batch = await outbox.batch()
    assert batch
    assert len(PushRequest.model_validate_json(batch.body).records) == 1000
