from typing import Any

import numpy as np
import pytest
import torch

from models.r3an.game import Batch, Game
from models.r3an.linear import Affine
from models.r3an.mappers import ResidualR3an
from models.r3an.network import Discriminator, Extractor, Generator, Networks, R3an
from models.r3an.options import ARCHITECTURES, Architecture, profile_options

BATCH = Batch(
    torch.nn.functional.normalize(torch.randn(8, 10)),
    torch.nn.functional.normalize(torch.randn(8, 6)),
    torch.rand(8, 3, 56, 56) * 2 - 1,
)


def game(**changes: object) -> Game:
    torch.manual_seed(0)
    networks = Networks(Generator(10), Discriminator(), Extractor(6))
    options = profile_options("cpu", {"adv_ramp": 0.0, **changes})
    mapper = R3an(networks.generator, networks.extractor)
    return Game(options, mapper, networks, torch.device("cpu"))


def weights(network: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def moved(before: list[torch.Tensor], network: torch.nn.Module) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_four_updates_in_the_algorithms_order_each_move_their_own_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    playing = game()
    networks = playing.networks
    assert networks is not None
    seen: list[tuple[str, list[str]]] = []
    take = playing._update

    def watched(mover: str, parts: dict[str, torch.Tensor]) -> dict[str, float]:
        before = {name: weights(part) for name, part in networks._asdict().items()}
        made = take(mover, parts)
        after = [name for name, part in networks._asdict().items() if moved(before[name], part)]
        seen.append((mover, after))
        return made

    monkeypatch.setattr(playing, "_update", watched)
    playing.play(BATCH, 0.1)
    assert seen == [
        ("d", ["discriminator"]),
        ("g", ["generator"]),
        ("e", ["extractor"]),
        ("reg", ["generator", "extractor"]),
    ]
    assert len({id(optimiser) for optimiser in playing.optimisers.values()}) == 4


def test_the_regression_sees_what_the_updates_before_it_have_changed() -> None:
    after = game(rec_adv=False, rep_l2=False)
    lone = game(rec_adv=False, rep_l2=False, rec_l2=False)
    assert after.play(BATCH, 0.1)["reg"] != lone.play(BATCH, 0.1)["reg"]


LOSSES = {"rec_adv": {"d", "rec_adv"}, "rec_l2": {"rec_l2"}, "rep_l2": {"rep"}, "reg_l2": {"reg"}}


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in ("FC", "FC-deep")])
def test_each_row_of_the_table_has_its_losses(name: Architecture) -> None:
    row = ARCHITECTURES[name]
    wanted = set().union(*(LOSSES[flag] for flag in LOSSES if row[flag]))
    assert set(game(**row).play(BATCH, 0.1)) == wanted | {"total"}


def test_the_table_is_the_papers() -> None:
    flags = ("rec_adv", "rec_l2", "rep_l2", "reg_l2")
    rows = {
        name: "".join("x" if row[flag] else "-" for flag in flags)
        for name, row in ARCHITECTURES.items()
        if row["fc"] == "none"
    }
    assert rows == {
        "Arch1": "-xx-", "Arch2": "x-x-", "Arch3": "---x", "Arch4": "-x-x", "Arch5": "-xxx",
        "Arch6": "x--x", "Arch7": "--xx", "R3AN": "xxxx",
    }  # fmt: skip


def test_what_is_not_finite_changes_nothing() -> None:
    playing = game(rec_adv=False, rec_l2=False)
    before = weights(playing.mapper)
    broken: Any = BATCH._replace(target=BATCH.target * float("nan"))
    playing.play(broken, 0.1)
    assert not playing.finite
    assert not moved(before, playing.mapper)
    playing.play(BATCH, 0.1)
    assert playing.finite


def test_the_linear_path_learns_together_with_the_face() -> None:
    torch.manual_seed(0)
    networks = Networks(Generator(10), Discriminator(), Extractor(6))
    start = Affine(np.random.default_rng(0).normal(size=(10, 6)), np.zeros(6))
    mapper = ResidualR3an(start, R3an(networks.generator, networks.extractor))
    options = profile_options("cpu", {"linear_path": True})
    playing = Game(options, mapper, networks, torch.device("cpu"))
    before = weights(mapper.straight), mapper.share.detach().clone()
    playing.play(BATCH, 0.1)
    assert moved(before[0], mapper.straight)
    assert not torch.equal(before[1], mapper.share)


def test_the_extractor_begins_alone_where_that_is_asked_for() -> None:
    playing = game(pretrain=0.5)
    assert set(playing.play(BATCH, 0.4)) == {"rep", "total"}
    assert set(playing.play(BATCH, 0.5)) == {"d", "rec_adv", "rec_l2", "rep", "reg", "total"}
