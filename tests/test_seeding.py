"""Draws are functions of (seed, purpose, index), whatever the share."""

import torch

from harness.seeding import Draws, generator, initial_weights, key_for, uniform

CPU = torch.device("cpu")


def draws(share: slice, seed: int = 0, index: int = 0) -> Draws:
    return Draws(seed, "train", index, 12, share, CPU)


def test_processes_draw_their_parts_of_one_batch() -> None:
    for name, of in {
        "normal": lambda d: d.normal("eps", 2, 3),
        "uniform": lambda d: d.uniform("u"),
        "integers": lambda d: d.integers("t", 1000),
        "stratified": lambda d: d.stratified("t"),
    }.items():
        whole = of(draws(slice(0, 12)))
        parts = [of(draws(slice(start, start + 4))) for start in (0, 4, 8)]
        assert torch.equal(torch.cat(parts), whole), name


def test_every_seed_purpose_and_index_draws_something_else() -> None:
    whole = slice(0, 12)
    first = draws(whole).normal("eps", 4)
    assert torch.equal(first, draws(whole).normal("eps", 4))
    others = [draws(whole, seed=1), draws(whole, index=1)]
    assert not any(torch.equal(first, other.normal("eps", 4)) for other in others)
    assert not torch.equal(first, draws(whole).normal("z", 4))
    assert key_for(1, "a", 23) != key_for(12, "a", 3)


def test_stratified_draws_fall_one_into_each_stretch() -> None:
    drawn = draws(slice(0, 12)).stratified("t")
    assert torch.equal((drawn * 12).long(), torch.arange(12))


def test_initial_weights_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    with initial_weights(3, "net"):
        first = torch.randn(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    with initial_weights(3, "net"):
        assert torch.equal(torch.randn(4), first)


def test_a_generator_is_fresh_each_time() -> None:
    assert torch.equal(uniform(generator(5, "a"), 3), uniform(generator(5, "a"), 3))


def test_every_bit_of_a_key_counts() -> None:
    """Of 200,000 draws no two are equal: with 32 bits some four would be."""
    firsts = {int(generator(0, "order", index).integers(2**63)) for index in range(200_000)}
    assert len(firsts) == 200_000
