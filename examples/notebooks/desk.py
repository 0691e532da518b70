"""An invented support desk: half a year of tickets and their customers in an SQLite file.

Nobody's data are in here. What a ticket waits for follows from a rule, so that there is something to learn, and from
chance, so that not everything can be learned.
"""

from __future__ import annotations

import math
import random
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

FIRST_DAY = datetime(2026, 1, 5)  # a Monday
WEEKS = 26
SEED = 3

CHANNELS = {"phone": 0.6, "chat": 0.9, "e-mail": 1.7}
"""Channel -> how much longer than usual it waits."""
TOPICS = {
    "login": (0.8, ["cannot log in", "password is not accepted", "locked out of my account", "login page is blank"]),
    "invoice": (1.0, ["question about my invoice", "charged twice", "invoice shows a wrong address", "need a receipt"]),
    "outage": (1.7, ["nothing works since this morning", "connection is down", "service is down again", "no signal"]),
    "cancel": (
        1.3,
        ["want to cancel my contract", "how do I cancel", "stop my subscription", "leave at the end of May"],
    ),
    "device": (1.2, ["router blinks red", "new modem does not start", "set up my router", "device is broken"]),
}
"""Topic -> how much longer it waits, and what people write."""
OPENINGS = ["", "Hello, ", "Hi, ", "Please help: ", "URGENT: ", "Good morning, "]
ENDINGS = ["", " please", ", thanks", " today", ", can you call me"]
KINDS = {
    # tickets a month, shares of phone, chat and e-mail, shares of the topics, euros a month, months as a customer
    "quiet household": (0.25, (0.3, 0.2, 0.5), (0.25, 0.45, 0.05, 0.05, 0.2), (24, 4), (60, 20)),
    "troubled household": (1.6, (0.6, 0.3, 0.1), (0.1, 0.15, 0.45, 0.1, 0.2), (33, 5), (26, 10)),
    "newcomer": (1.3, (0.1, 0.8, 0.1), (0.45, 0.15, 0.05, 0.05, 0.3), (20, 4), (4, 2)),
    "small firm": (2.8, (0.2, 0.15, 0.65), (0.1, 0.5, 0.2, 0.05, 0.15), (95, 18), (40, 15)),
}
"""Kind of customer -> how they use the desk. No column says the kind."""
BUSY = {8: 0.7, 9: 1.3, 10: 1.6, 11: 1.3, 12: 0.8, 13: 0.9, 14: 1.1, 15: 1.0, 16: 0.9, 17: 0.8, 18: 0.6, 19: 0.4}
"""Hour -> how many tickets come, beside the mean."""
UNKNOWN = 9999
"""What the telephone system writes when it has lost count of its queue."""


def write_desk(file: Path, customers: int = 520) -> None:
    """Write the database with its tables `tickets` and `customers`."""
    rng = random.Random(SEED)
    file.unlink(missing_ok=True)
    with sqlite3.connect(file) as desk:
        desk.execute("CREATE TABLE customers (customer INTEGER PRIMARY KEY, months INTEGER, euros_a_month REAL)")
        desk.execute(
            "CREATE TABLE tickets (id INTEGER PRIMARY KEY, customer INTEGER, opened TEXT, channel TEXT, subject TEXT,"
            " agents INTEGER, queue INTEGER, wait_min REAL)"
        )
        kinds = rng.choices(list(KINDS), weights=(4, 2, 2, 2), k=customers)
        for customer, kind in enumerate(kinds):
            euros, months = (max(1.0, rng.gauss(*KINDS[kind][place])) for place in (3, 4))
            desk.execute("INSERT INTO customers VALUES (?, ?, ?)", (customer, round(months), round(euros, 2)))
        tickets = sorted(
            (moment, customer, kind)
            for customer, kind in enumerate(kinds)
            for moment in _moments(rng, KINDS[kind][0] * WEEKS * 7 / 30)
        )
        for number, (moment, customer, kind) in enumerate(tickets):
            desk.execute(
                "INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (number, customer, *_ticket(rng, moment, kind))
            )
    desk.close()


def _moments(rng: random.Random, expected: float) -> list[datetime]:
    """Return when a customer writes: more often on Mondays and in the morning, and more in the later weeks."""
    found = []
    for _ in range(max(1, round(rng.gauss(expected, math.sqrt(expected))))):
        week = rng.choices(range(WEEKS), weights=[1 + 0.02 * week for week in range(WEEKS)])[0]
        weekday = rng.choices(range(6), weights=(1.5, 1.1, 1, 1, 1, 0.5))[0]
        hour = rng.choices(list(BUSY), weights=list(BUSY.values()))[0]
        found.append(FIRST_DAY + timedelta(weeks=week, days=weekday, hours=hour, minutes=rng.randrange(60)))
    return found


def _ticket(
    rng: random.Random, moment: datetime, kind: str
) -> tuple[str, str | None, str, int | None, int, float | None]:
    """Return when, channel, subject, agents on duty, open tickets, and minutes until the first answer."""
    _, channels, topics, *_ = KINDS[kind]
    channel = rng.choices(list(CHANNELS), weights=channels)[0]
    topic = rng.choices(list(TOPICS), weights=topics)[0]
    opening = rng.choice(OPENINGS)
    subject = f"{opening}{rng.choice(TOPICS[topic][1])}{rng.choice(ENDINGS)}"
    agents = max(2, round(rng.gauss(6 if moment.weekday() < 5 else 3.5, 1.2)))
    busy = BUSY[moment.hour] * (1.35 if moment.weekday() == 0 else 1.0)
    queue = max(0, round(rng.gauss(14 * busy, 4)))
    each = 4.5 * queue / agents if queue > agents else 2.0  # minutes; whoever finds a free agent hardly waits
    wait = (2 + each) * CHANNELS[channel] * TOPICS[topic][0] * (0.6 if opening == "URGENT: " else 1.0)
    wait *= math.exp(rng.gauss(0, 0.3))
    odd = rng.random()
    if odd < 0.006:
        wait = rng.uniform(900, 2500)  # forgotten: the clock went on through the night
    return (
        moment.isoformat(),
        None if rng.random() < 0.02 else channel,
        subject,
        None if rng.random() < 0.06 else agents,
        UNKNOWN if rng.random() < 0.008 else queue,
        None if 0.006 <= odd < 0.016 else round(wait, 1),
    )
