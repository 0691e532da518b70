"""What is drawn depends on the seed alone, and nothing else notices."""

from __future__ import annotations

import torch

from shared.training.module import seeded


def test_the_same_seed_draws_the_same_whatever_was_drawn_before():
    draws = []
    for before in (0, 5):
        torch.rand(before)
        with seeded(7):
            draws.append(torch.rand(4))
    with seeded(8):
        other = torch.rand(4)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], other)


def test_it_draws_what_manual_seed_would():
    with seeded(-3, torch.device("cpu")):
        found = torch.rand(4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(-3)
        assert torch.equal(found, torch.rand(4))


def test_outside_of_it_the_numbers_go_on_as_if_nothing_had_been():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        plain = torch.rand(6)
        torch.manual_seed(1)
        first = torch.rand(3)
        with seeded(7):
            torch.rand(10)
        assert torch.equal(torch.cat([first, torch.rand(3)]), plain)
