# SPDX-License-Identifier: Apache-2.0
"""Who is in a cluster and who is to leave it, for clusters of any shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewright.spec.machines import Kept, Machine, Machines, Own
from kubewright.spec.models import ControlPlane, Node, Pool, Spec
from kubewright.spec.roster import Roster, choose, of


def spec(size: int = 2, planes: int = 1, **more: Any) -> Spec:
    pools = (Pool(name="web", provider="local", size=size),)
    return Spec(
        plugin="kubewright.cluster.spec",
        name="demo",
        version="1.37",
        control_plane=ControlPlane(provider="local", size=planes),
        **{"pools": pools, **more},
    )


def machine(name: str, provider: str = "local") -> Machine:
    where = ("region", "zone", "type", "on")
    return Machine(f"{provider}://demo/{name}", name, "192.0.2.1", (), provider, *where)


def known(*numbers: int, kept: Kept | None = None, more: Sequence[Machine] = ()) -> Machines:
    made = [machine(f"demo-web-{number}") for number in numbers]
    return Machines("demo", None, (machine("demo-cp-1"), *made, *more), kept or Kept())


def web(found: Roster) -> list[int]:
    return [int(name.rpartition("-")[2]) for name in found.pools["web"]]


def told(found: Roster) -> dict[str, str]:
    return {one.name: one.why for one in found.leaving}


def test_machines_keep_their_names_and_new_ones_get_the_lowest_that_are_free() -> None:
    assert web(of(spec(2))) == [1, 2]
    assert web(of(spec(2), known(1, 3))) == [1, 3]
    assert web(of(spec(3), known(1, 3))) == [1, 2, 3]
    assert web(of(spec(4), known(7))) == [1, 2, 3, 7]


def test_of_too_many_the_highest_go_unless_others_were_named_or_chosen() -> None:
    assert told(of(spec(1), known(1, 2, 10))) == {
        "demo-web-2": "pool web has size 1",
        "demo-web-10": "pool web has size 1",
    }
    kept = Kept(named=("demo-web-2",), chosen=("demo-web-1",))
    assert web(of(spec(2), known(1, 2, 3, kept=kept))) == [1, 3]
    assert web(of(spec(1), known(1, 2, 3, kept=kept))) == [3]
    assert web(of(spec(3), known(1, 2, 3, kept=kept))) == [1, 2, 3], "nobody has to go"


def test_why_others_are_leaving() -> None:
    own = Own("delta", "192.0.2.21", 22, "root", "", (), "gpu", "worker")
    more = [
        machine("demo-old-1"),
        machine("demo-old-1-1"),
        machine("demo-cp-2"),
        machine("delta", "static"),
        machine("epsilon", "static"),
    ]
    found = of(spec(1), known(1, kept=Kept((own,)), more=more))
    assert told(found) == {
        "demo-cp-2": "the control plane has size 1",
        "delta": "pool gpu was removed",
        "demo-old-1": "pool old was removed",
        "demo-old-1-1": "pool old-1 was removed",
    }, "of epsilon nobody knows how to reach it"
    assert found.hosts == ("demo-cp-1", "demo-web-1")
    assert found.planes == ("demo-cp-1", "demo-cp-2")
    assert found.known == (*found.hosts, *told(found))


def test_a_machine_that_the_file_lists_by_its_name() -> None:
    node = Node(name="delta", address="192.0.2.21")
    own = Own("delta", "192.0.2.21", 22, "root", "", (), "gpu", "worker")
    machines = known(1, kept=Kept((own,)), more=[machine("delta", "static")])
    pool = Pool(name="gpu", provider="static", nodes=(node,))
    assert told(of(spec(pools=(pool,)), machines)).keys() == {"demo-web-1"}
    without = Pool(name="gpu", provider="static", nodes=())
    assert told(of(spec(pools=(without,)), machines))["delta"] == "no longer in cluster.yml"


@pytest.mark.parametrize("name", ["demo-web-01", "demo-web-", "demo-web-x", "demo-web-²", "web-1"])
def test_names_that_nobody_has_made(name: str) -> None:
    """They hold no number of a pool."""
    found = of(spec(1), known(more=[machine(name)]))
    assert told(found) == {name: "no longer in cluster.yml"}
    assert web(found) == [1]


def test_another_providers_machine_of_that_name_is_its_nodes() -> None:
    """A provider that is changed is refused by the run: no machine moves."""
    found = of(spec(1), known(more=[machine("demo-web-1", "other")]))
    assert found.pools["web"] == ("demo-web-1",) and not found.leaving


def test_the_worst_are_chosen_and_who_was_named_before_them() -> None:
    state = {"demo-web-1": 1, "demo-web-2": 2}
    chosen = choose(spec(2), known(1, 2, 3), state)
    assert (chosen.named, chosen.chosen) == ((), ("demo-web-2",))
    assert web(of(spec(2), known(1, 2, 3, kept=chosen))) == [1, 3]
    named = Kept(named=("demo-web-3",), chosen=("demo-web-2",))
    assert choose(spec(2), known(1, 2, 3, kept=named), state) == Kept(named=("demo-web-3",))
    assert choose(spec(1), known(1, 2, 3, kept=named), state).chosen == ("demo-web-2",)
    assert choose(spec(3), known(1, 2, 3, kept=named), state) == Kept(), "it is out of date"
    assert choose(spec(2), known(1, 2, 3), {}) == Kept(), "the highest goes"


NUMBERS = st.sets(st.integers(1, 12), max_size=8)
NAMES = NUMBERS.map(lambda numbers: tuple(f"demo-web-{number}" for number in sorted(numbers)))


@given(st.integers(0, 8), NUMBERS, NAMES, NAMES)
def test_of_any_pool(
    size: int, numbers: set[int], named: tuple[str, ...], chosen: tuple[str, ...]
) -> None:
    machines = known(*numbers, kept=Kept(named=named, chosen=chosen))
    found = of(spec(size), machines)
    staying, going = web(found), [one.name for one in found.leaving]
    assert len(staying) == len(set(staying)) == size
    assert staying == sorted(staying)
    assert {f"demo-web-{number}" for number in numbers} - set(found.pools["web"]) == set(going)
    if len(numbers) <= size:
        assert not going
        # No new machine has a number that the file did not promise to others.
        assert all(number <= size for number in set(staying) - numbers)
    else:
        assert set(staying) <= numbers
    # Once they are all there, and those that go have gone, nothing is left to do.
    again = of(spec(size), known(*staying, kept=machines.kept))
    assert web(again) == staying and not again.leaving


@given(NUMBERS, st.integers(0, 8), st.dictionaries(st.integers(1, 12), st.integers(0, 2)))
def test_nobody_sound_goes_while_one_in_a_worse_state_stays(
    numbers: set[int], size: int, state: dict[int, int]
) -> None:
    states = {f"demo-web-{number}": how for number, how in state.items()}
    machines = known(*numbers)
    kept = choose(spec(size), machines, states)
    found = of(spec(size), Machines("demo", None, machines.machines, kept))
    if not found.leaving:
        return
    best_gone = min(states.get(one.name, 0) for one in found.leaving)
    worst_staying = max((states.get(name, 0) for name in found.pools["web"]), default=0)
    assert worst_staying <= best_gone


def test_all_that_is_known_is_in_or_out() -> None:
    listed = known(1, 2, 3, more=[machine("demo-x-1")])
    found = of(spec(2), listed)
    assert set(found.known) == {one.name for one in listed.machines}
