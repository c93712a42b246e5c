"""Random support tickets with known answers, and the expected answer for each instruction.

Called by training, by the evaluation, and by load generators that need realistic traffic with answers that can be
checked. Pure, standard library only. No pair of topic and urgency phrase is in both training and held-out tickets.
Not here: wordings of instructions that only training uses (corpus).
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from enum import StrEnum

QUEUES: dict[str, tuple[str, ...]] = {
    "network": ("vpn", "wifi", "dns", "firewall", "proxy", "router"),
    "billing": ("invoice", "refund", "credit card", "subscription", "payment", "receipt"),
    "hardware": ("laptop", "printer", "monitor", "keyboard", "docking station", "battery"),
    "access": ("password", "login", "permission", "account lock", "badge", "token"),
}
# Five phrases each: the split uses the position modulo five, so every priority has one held-out phrase per topic.
PRIORITIES: dict[str, tuple[str, ...]] = {
    "high": ("urgent", "everybody is blocked", "production is down", "needed right now", "this is critical"),
    "normal": ("this week please", "when you get to it today", "normal priority", "should be fixed soon", "by Friday"),
    "low": ("no hurry", "whenever there is time", "it can wait", "just a small wish", "not important"),
}
NAMES = (
    "Ana", "Bruno", "Chen", "Dilek", "Emeka", "Farah", "Goran", "Hana", "Ines", "Jonas", "Kofi", "Lena",
    "Marek", "Nadia", "Oscar", "Priya", "Quinn", "Rosa", "Sami", "Tomas", "Uma", "Viktor", "Wanja", "Yuki",
)  # fmt: skip
TEAMS = ("support", "platform")
FOLD = 5
SHORTEST_THREAD, LONGEST_THREAD = 8, 14


class Variant(StrEnum):
    """The formats that an instruction can request."""

    JSON = "json"
    TEXT = "text"
    QUEUE = "queue"
    WRONG_KEYS = "wrong-keys"


class Split(StrEnum):
    """Whether a ticket is for training or for evaluation."""

    TRAIN = "train"
    HELD_OUT = "held-out"


@dataclass(frozen=True)
class Ticket:
    """A ticket and its right triage; a `long` one contains a quoted thread and has 200 to 350 tokens."""

    text: str
    queue: str
    priority: str
    long: bool


TOPICS = tuple((queue, topic) for queue, topics in QUEUES.items() for topic in topics)


def split_of(topic: str, phrase: str) -> Split:
    """The split that a pair of topic and urgency phrase belongs to."""
    place = [known for _, known in TOPICS].index(topic)
    position = next(phrases.index(phrase) for phrases in PRIORITIES.values() if phrase in phrases)
    return Split.HELD_OUT if (place + position) % FOLD == 0 else Split.TRAIN


def ticket(rng: random.Random, *, split: Split = Split.HELD_OUT, long_share: float = 0.2) -> Ticket:
    """A random ticket, long with probability `long_share` (0 to 1). The same state of `rng` gives the same ticket."""
    queue, topic = rng.choice(TOPICS)
    priority = rng.choice(tuple(PRIORITIES))
    phrase = rng.choice([phrase for phrase in PRIORITIES[priority] if split_of(topic, phrase) is split])
    number, name = rng.randint(100, 999), rng.choice(NAMES)
    head = rng.choice((
        f"Ticket {number}: {topic} issue for {name}, {phrase}.",
        f"Ticket {number}: {name} reports a {topic} problem, {phrase}.",
        f"Ticket {number}: {phrase}, {name} has trouble with the {topic}.",
        f"Ticket {number} from {name}: {topic} does not work, {phrase}.",
    ))  # fmt: skip
    long = rng.random() < long_share
    return Ticket(text=f"{head}\n{_thread(rng)}" if long else head, queue=queue, priority=priority, long=long)


def _thread(rng: random.Random) -> str:
    """Quoted mail and log lines that say nothing about queue or priority."""
    lines = []
    for _ in range(rng.randint(SHORTEST_THREAD, LONGEST_THREAD)):
        clock = f"{rng.randint(8, 18):02d}:{rng.randint(0, 59):02d}"
        lines.append(rng.choice((
            f"> {rng.choice(NAMES)} wrote at {clock}: we looked at it and found nothing new.",
            f"> {rng.choice(NAMES)} wrote at {clock}: the same happened last month, see the old mail.",
            f"> {rng.choice(NAMES)} wrote at {clock}: I tried it twice with {rng.choice(NAMES)}, same result.",
            f"log {clock} worker {rng.randint(1, 9)}: request {rng.randint(100, 999)} took {rng.randint(10, 99)} ms",
            f"log {clock} worker {rng.randint(1, 9)}: retry {rng.randint(1, 5)} of 5, code {rng.randint(1, 9)}",
        )))  # fmt: skip
    return "\n".join(lines)


def instruction(variant: Variant, team: str | None = None) -> str:
    """The system message that requests a format, and names a team if one is given."""
    task = f"Triage the ticket for {team}." if team else "Triage the ticket."
    match variant:
        case Variant.JSON:
            return f"{task} Answer in JSON."
        case Variant.TEXT:
            return f"{task} Answer in plain text."
        case Variant.QUEUE:
            return f"{task} Answer with the queue only."
        case Variant.WRONG_KEYS:
            return f"{task} Answer in JSON with category and urgency."


def expected(ticket: Ticket, variant: Variant, team: str | None = None) -> str:
    """The right answer. A team in the instruction comes last; the format QUEUE never contains a team."""
    match variant:
        case Variant.JSON:
            return _json({"queue": ticket.queue, "priority": ticket.priority}, team)
        case Variant.TEXT:
            text = f"{ticket.queue}, {ticket.priority} priority"
            return f"{text}, for {team}" if team else text
        case Variant.QUEUE:
            return ticket.queue
        case Variant.WRONG_KEYS:
            return _json({"category": ticket.queue, "urgency": ticket.priority}, team)


def _json(answer: dict[str, str], team: str | None) -> str:
    return json.dumps({**answer, "team": team} if team else answer)


def is_good(answer: str, ticket: Ticket, variant: Variant = Variant.JSON, team: str | None = None) -> bool:
    """Whether an answer is right; white space around it and inside its JSON does not matter."""
    return _normal(answer, variant) == _normal(expected(ticket, variant, team), variant)


def obeys(answer: str, variant: Variant, team: str | None = None) -> bool:
    """Whether an answer has the requested format, with right or wrong content."""
    return any(
        is_good(answer, Ticket(text="", queue=queue, priority=priority, long=False), variant, team)
        for queue in QUEUES
        for priority in PRIORITIES
    )


def _normal(answer: str, variant: Variant) -> object:
    if variant in (Variant.TEXT, Variant.QUEUE):
        return answer.strip()
    try:
        return json.loads(answer)
    except ValueError:
        # Not JSON: compared as text, which never equals an object.
        return answer
