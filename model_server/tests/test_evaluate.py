"""The pure part of the evaluation: its tickets, messages and scores."""

from model_server.tiny.corpus import CASES, Case
from model_server.tiny.evaluate import held_out, messages_for, score, table
from model_server.tiny.tickets import Variant, expected


def test_every_checkpoint_gets_the_same_tickets() -> None:
    assert held_out(40) == held_out(40)
    assert any(drawn.long for drawn in held_out(40))
    assert not all(drawn.long for drawn in held_out(40))


def test_case_without_instruction_sends_ticket_only() -> None:
    (drawn,) = held_out(1)
    assert [message["role"] for message in messages_for(CASES[0], drawn)] == ["user"]
    assert [message["role"] for message in messages_for(CASES[1], drawn)] == ["system", "user"]


def test_score_counts_format_and_correctness_separately() -> None:
    tickets = held_out(4)
    case = Case(Variant.QUEUE, None)
    right = expected(tickets[0], Variant.QUEUE)
    wrong_queue = "billing" if tickets[1].queue != "billing" else "network"
    result = score(case, tickets, [right, wrong_queue, "no idea", ""])
    assert (result.count, result.obeyed, result.right) == (4, 0.5, 0.25)
    assert "50.0%" in table([result])
    assert "25.0%" in table([result])
