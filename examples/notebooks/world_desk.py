"""The support desk of a bank that does not exist: its tickets in a database and an API, its help site, its customers.

All tickets are invented: put together from the parts in desk_tickets.json and in ../loop/utterances.json. Their wording
drifts, as that of customers does: each month brings turns of phrase that no month before had. So the newest tickets are
harder than the old ones, and a model that only knows old ones shows it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa

from examples.notebooks.world import ROOT, Site

KNOWN = (
    "card_lost",
    "transfer_money",
    "account_balance",
    "change_address",
    "open_hours",
    "loan_apply",
    "password_reset",
    "fee_question",
)
"""What the desk sorts tickets into; what fits none of them is `oos`, out of scope."""
NEW = "scam_report"
"""What customers begin to ask in December."""
TOKEN = "desk-token"  # noqa: S105 - of the loopback
SEED = 21
MONTHS = range(3, 12)
"""March to November: the old tickets."""
PER_INTENT = {"open_hours": 4, "loan_apply": 5}
"""A month; 11 of the others."""


@dataclass(frozen=True)
class Ticket:
    """What a customer writes."""

    number: int
    opened: str
    text: str
    label: str


class Desk:
    """Everything that the desk has when the project begins, and what its customers write afterwards."""

    def __init__(self) -> None:
        self._rng = random.Random(SEED)
        parts = json.loads((ROOT / "examples" / "loop" / "utterances.json").read_text(encoding="utf-8"))
        more = json.loads(Path(__file__).with_name("desk_tickets.json").read_text(encoding="utf-8"))
        self._openings, self._endings = parts["openings"], parts["endings"]
        self._things = {name: parts["intents"][name]["x"] for name in (*KNOWN, NEW)}
        self._said = {name: parts["intents"][name]["said"] + more["more_said"][name] for name in KNOWN}
        self._said[NEW] = parts["intents"][NEW]["said"] + more["more_of_new"][NEW]
        self._other = more["other"]
        self._number = 1000
        old = [ticket for month in MONTHS for ticket in self._month(month)]
        self.december = self._written([*KNOWN * 16, *[NEW] * 64, *["oos"] * 10], 12)
        """What customers write once the service answers, in its order."""
        self.january = self._written([*KNOWN * 12, *[NEW] * 48], 13)
        """And later."""
        self.truth = {ticket.text: ticket.label for ticket in (*old, *self.december, *self.january)}
        """Text -> what a person who reads it would say."""
        self.tickets: list[Ticket] = []
        self._forms: list[Ticket] = []
        for place, ticket in enumerate(self._spoilt(old)):
            by_form = place % 3 == 0 and ticket.opened < "2026-10"  # when the web form was closed
            (self._forms if by_form else self.tickets).append(ticket)

    def fill(self, url: str) -> None:
        """Write the tickets that came by mail into the table `tickets` of a database."""
        rows = [(each.number, each.opened, each.text, each.label) for each in self.tickets]
        table = pd.DataFrame(rows, columns=["id", "opened", "message", "team"])
        table.to_sql("tickets", sa.create_engine(url), index=False)

    def api(self) -> Site:
        """Start the API of the web form, which was open until September: 50 tickets a page; it wants a token."""
        found = [
            {"id": each.number, "created": each.opened, "body": {"text": each.text}, "topic": {"name": each.label}}
            for each in self._forms
        ]

        def page(query: dict[str, str]) -> dict[str, object]:
            first = (int(query.get("page", "1")) - 1) * 50
            return {"data": found[first : first + 50], "total": len(found)}

        return Site({"/tickets": page}, token=TOKEN)

    def help_site(self) -> Site:
        """Start the bank's help site: its questions about the opening hours and loans, each a page."""
        pages: dict[str, str] = {"/robots.txt": "User-agent: *\nAllow: /\n"}
        for name in PER_INTENT:
            asked = [said.replace("{x}", thing) for said in self._said[name][:4] for thing in self._things[name]]
            places = [f"<url><loc>{{url}}/{name}/{number}.html</loc></url>" for number in range(len(asked))]
            pages[f"/{name}/sitemap.xml"] = f"<urlset>{''.join(places)}</urlset>"
            for number, text in enumerate(asked):
                body = f"<h1>{text}?</h1><p>Call us or come to the counter, and we answer at once.</p>"
                pages[f"/{name}/{number}.html"] = f"<html lang=en><title>{text}?</title><main>{body}</main></html>"
        site = Site(pages)
        for path in list(site.pages):
            site.pages[path] = site.pages[path].replace("{url}", site.url)
        return site

    def decide(self, findings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return what a person who reads likely label errors decides: another label, or to keep the given one."""
        decisions = []
        for each in findings:
            right = self.truth.get(each["text"], each["given"])
            said = {"action": "keep"} if right == each["given"] else {"action": "relabel", "value": right}
            decisions.append({"row": each["row"], "sha256": each["sha256"], "kind": each["kind"], **said})
        return decisions

    def _month(self, month: int) -> list[Ticket]:
        wanted = [name for name in KNOWN for _ in range(PER_INTENT.get(name, 11))] + ["oos"] * 7
        return self._written(wanted * {10: 2, 11: 3}.get(month, 1), month)  # there are more and more of them

    def _written(self, labels: Sequence[str], month: int) -> list[Ticket]:
        """Return a ticket for each label, in a random order, in the words of this month."""
        drawn = list(labels)
        self._rng.shuffle(drawn)
        year, of_year = 2026 + (month - 1) // 12, (month - 1) % 12 + 1
        found = []
        for place, label in enumerate(drawn):
            self._number += 1
            day = 1 + place * 28 // len(drawn)
            found.append(Ticket(self._number, f"{year}-{of_year:02}-{day:02}", self._text(label, month), label))
        return found

    def _text(self, label: str, month: int) -> str:
        if label == "oos":
            core = self._rng.choice(self._other[: 4 * (month - 2)])
        else:
            said = self._said[label]
            # Six turns of phrase at first; from August on two more each month, and half of the tickets use those.
            last = len(said) if label == NEW else min(6 + max(0, 2 * (month - 7)), len(said))
            is_new = label != NEW and last > 6 and self._rng.random() < 0.5
            core = self._rng.choice(said[6:last] if is_new else said[:last])
            core = core.replace("{x}", self._rng.choice(self._things[label]))
        text = f"{self._rng.choice(self._openings)}{core}{self._rng.choice(self._endings)}"
        return self._mistyped(text) if self._rng.random() < 0.25 else text

    def _mistyped(self, text: str) -> str:
        """Return the text with two neighbouring letters of a word exchanged, as hurried people write."""
        places = [i for i in range(1, len(text) - 2) if text[i : i + 2].isalpha()]
        place = self._rng.choice(places)
        return text[:place] + text[place + 1] + text[place] + text[place + 2 :]

    def _spoilt(self, tickets: list[Ticket]) -> list[Ticket]:
        """Return the tickets as desks have them: odd spellings of labels, copies, gaps, wrong teams, personal data."""
        found = []
        for ticket in tickets:
            chance, text, label = self._rng.random(), ticket.text, ticket.label
            if ticket.opened < "2026-10":  # since October the desk sorts with care: these tickets measure
                if chance < 0.03:
                    label = self._rng.choice([name for name in KNOWN if name != label])
                elif chance < 0.10:
                    label = label.replace("_", " ").title()
                elif chance < 0.12:
                    text = ""
            if 0.12 < chance < 0.15:
                text = f"{text}, write to {self._rng.choice(['ann', 'joe', 'kim'])}.{ticket.number}@example.com"
                self.truth[text] = ticket.label
            found.append(Ticket(ticket.number, ticket.opened, text, label))
            if 0.15 < chance < 0.19 and ticket.opened < "2026-10":
                self._number += 1
                found.append(Ticket(self._number, ticket.opened, text.upper() if chance < 0.17 else text, label))
        self._rng.shuffle(found)
        return found
