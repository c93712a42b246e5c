"""Tickets: the split into training and held-out tickets, expected answers, and the check of answers."""

import json
import random

import pytest

from model_server.tiny.corpus import CASES, Case, example
from model_server.tiny.tickets import (
    FOLD,
    PRIORITIES,
    QUEUES,
    TEAMS,
    TOPICS,
    Split,
    Ticket,
    Variant,
    expected,
    instruction,
    is_good,
    obeys,
    split_of,
    ticket,
)

DRAWS = 2000
TICKET = Ticket(text="Ticket 417: vpn issue for Ana, urgent.", queue="network", priority="high", long=False)


def pair_in(text: str) -> tuple[str, str]:
    """The topic and the urgency phrase that a ticket's first line names."""
    head = text.splitlines()[0]
    (topic,) = [topic for _, topic in TOPICS if f" {topic} " in head or f" {topic}." in head]
    (phrase,) = [phrase for phrases in PRIORITIES.values() for phrase in phrases if phrase in head]
    return topic, phrase


def test_same_seed_gives_same_tickets() -> None:
    first, second = random.Random(3), random.Random(3)
    assert [ticket(first) for _ in range(50)] == [ticket(second) for _ in range(50)]


def test_different_seed_gives_different_tickets() -> None:
    first, second = random.Random(3), random.Random(4)
    assert [ticket(first) for _ in range(50)] != [ticket(second) for _ in range(50)]


@pytest.mark.parametrize("split", Split)
def test_ticket_belongs_to_its_split(split: Split) -> None:
    rng = random.Random(1)
    assert {split_of(*pair_in(ticket(rng, split=split).text)) for _ in range(DRAWS)} == {split}


def test_held_out_pairs_are_not_in_training() -> None:
    rng = random.Random(2)
    seen = {split: {pair_in(ticket(rng, split=split).text) for _ in range(DRAWS)} for split in Split}
    assert all(seen.values())
    assert not seen[Split.TRAIN] & seen[Split.HELD_OUT]


def test_training_draws_no_held_out_ticket() -> None:
    rng = random.Random(6)
    tickets = [dict(example(rng, long=False).messages)["user"] for _ in range(DRAWS)]
    assert {split_of(*pair_in(text)) for text in tickets} == {Split.TRAIN}


def test_every_topic_has_held_out_phrase_per_priority() -> None:
    for _, topic in TOPICS:
        for phrases in PRIORITIES.values():
            assert len(phrases) == FOLD
            assert sum(split_of(topic, phrase) is Split.HELD_OUT for phrase in phrases) == 1


def test_queues_and_priorities_are_about_equally_frequent() -> None:
    rng = random.Random(5)
    drawn = [ticket(rng) for _ in range(DRAWS)]
    for queue in QUEUES:
        assert abs(sum(t.queue == queue for t in drawn) / DRAWS - 1 / len(QUEUES)) < 0.04
    for priority in PRIORITIES:
        assert abs(sum(t.priority == priority for t in drawn) / DRAWS - 1 / len(PRIORITIES)) < 0.04


def test_first_line_determines_queue_and_priority() -> None:
    rng = random.Random(8)
    for _ in range(DRAWS):
        drawn = ticket(rng)
        topic, phrase = pair_in(drawn.text)
        assert topic in QUEUES[drawn.queue]
        assert phrase in PRIORITIES[drawn.priority]


def test_share_of_long_tickets_is_as_requested() -> None:
    rng = random.Random(9)
    share = sum(ticket(rng, long_share=0.3).long for _ in range(DRAWS)) / DRAWS
    assert abs(share - 0.3) < 0.04
    assert not any(ticket(rng, long_share=0).long for _ in range(50))
    assert all(ticket(rng, long_share=1).long for _ in range(50))


def test_long_ticket_is_many_times_longer_than_short_one() -> None:
    rng = random.Random(10)
    drawn = [ticket(rng, long_share=0.5) for _ in range(300)]
    longest_short = max(len(t.text) for t in drawn if not t.long)
    shortest_long = min(len(t.text) for t in drawn if t.long)
    assert shortest_long > 4 * longest_short


@pytest.mark.parametrize(
    ("variant", "team", "answer"),
    [
        (Variant.JSON, None, '{"queue": "network", "priority": "high"}'),
        (Variant.JSON, "support", '{"queue": "network", "priority": "high", "team": "support"}'),
        (Variant.TEXT, None, "network, high priority"),
        (Variant.TEXT, "platform", "network, high priority, for platform"),
        (Variant.QUEUE, None, "network"),
        (Variant.QUEUE, "platform", "network"),
        (Variant.WRONG_KEYS, None, '{"category": "network", "urgency": "high"}'),
    ],
)
def test_expected_answer_follows_instruction(variant: Variant, team: str | None, answer: str) -> None:
    assert expected(TICKET, variant, team) == answer


def test_every_case_has_its_own_instruction() -> None:
    asked = [instruction(case.variant, case.team) for case in CASES if case.variant is not None]
    assert len(set(asked)) == len(asked) == len(Variant) * (1 + len(TEAMS))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_expected_answer_is_good_and_obeys(case: Case) -> None:
    answer = expected(TICKET, case.answered_as, case.team)
    assert is_good(answer, TICKET, case.answered_as, case.team)
    assert obeys(answer, case.answered_as, case.team)


def test_whitespace_and_key_order_in_json_do_not_matter() -> None:
    assert is_good(' {"priority":"high",\n"queue":"network"} ', TICKET)


@pytest.mark.parametrize(
    "answer",
    ["", "network", '{"queue": "network"}', '{"queue": "billing", "priority": "high"}', '{"queue": "network", "prio'],
    ids=["nothing", "no JSON", "a key is missing", "wrong queue", "cut off"],
)
def test_wrong_answer_is_not_good(answer: str) -> None:
    assert not is_good(answer, TICKET)


def test_wrong_answer_in_right_format_obeys() -> None:
    assert obeys(json.dumps({"queue": "billing", "priority": "low"}), Variant.JSON)


@pytest.mark.parametrize(
    ("answer", "variant", "team"),
    [
        ('{"category": "network", "urgency": "high"}', Variant.JSON, None),
        ('{"queue": "network", "priority": "high"}', Variant.JSON, "support"),
        ('{"queue": "network", "priority": "high", "team": "support"}', Variant.JSON, "platform"),
        ('{"queue": "sales", "priority": "high"}', Variant.JSON, None),
        ("network, high priority", Variant.QUEUE, None),
        ('"network"', Variant.TEXT, None),
    ],
    ids=["wrong keys", "no team", "another team", "unknown queue", "more than the queue", "a JSON string"],
)
def test_answer_in_other_format_does_not_obey(answer: str, variant: Variant, team: str | None) -> None:
    assert not obeys(answer, variant, team)
