"""Leases of slots: fair, soon complete, and never two owners of one slot at one term; on a real PostgreSQL."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, update

from deploy.dev.services import Postgres
from ingest import lease_tables, leases
from ingest.leases import NOBODY, decide, keep, leave, lift, release, upgrade
from registry.clock import SystemClock
from registry.database import DatabaseBusy, open_database, writing
from tests.servers import new_database

LEASE = 60.0  # seconds: no lease of these tests ends by itself


class TestDecide:
    @given(st.integers(1, 40), st.lists(st.integers(0, 7), max_size=80), st.data())
    def test_whoever_comes_and_goes_all_slots_are_soon_owned_fairly_and_then_nothing_moves(
        self, count: int, events: list[int], data: st.DataObject
    ) -> None:
        owners = dict.fromkeys(range(count), NOBODY)
        terms = dict.fromkeys(range(count), 0)
        ever: dict[tuple[int, int], str] = {}
        alive: set[str] = set()
        for event in events:
            name = str(event)
            if name in alive:
                alive.discard(name)
                for slot, has in owners.items():  # its leases end
                    if has == name:
                        owners[slot] = NOBODY
            else:
                alive.add(name)
            if alive:
                _look(owners, terms, ever, alive, data.draw(st.sampled_from(sorted(alive))))
        alive |= {"last"}
        for _ in range(2 * count + 2):
            for name in data.draw(st.permutations(sorted(alive))):
                _look(owners, terms, ever, alive, name)
        shares = Counter(owners.values())
        assert NOBODY not in shares
        assert max(shares.values()) - min(shares[name] for name in alive) <= 1
        for name in alive:
            assert decide(owners, alive, name) == ([], [])

    def test_the_last_one_takes_all(self) -> None:
        assert decide(dict.fromkeys(range(5), NOBODY), {"a"}, "a").take == [0, 1, 2, 3, 4]

    def test_who_joins_is_given_a_few_at_a_time(self) -> None:
        owners = dict.fromkeys(range(64), "a")
        assert decide(owners, {"a", "b"}, "a") == ([], [32, 33, 34, 35])
        assert decide(owners, {"a", "b"}, "b") == ([], []), "nothing is free yet"

    def test_what_a_dead_one_has_is_left_until_its_lease_is_over(self) -> None:
        owners = {0: "dead", 1: "a"}
        assert decide(owners, {"a"}, "a") == ([], [])


def _look(
    owners: dict[int, str],
    terms: dict[int, int],
    ever: dict[tuple[int, int], str],
    alive: set[str],
    name: str,
) -> None:
    take, give = decide(owners, alive, name)
    assert all(owners[slot] == name for slot in give)
    for slot in take:
        assert owners[slot] == NOBODY
        terms[slot] += 1
        owners[slot] = name
        assert ever.setdefault((slot, terms[slot]), name) == name
    for slot in give:
        owners[slot] = NOBODY


@pytest.fixture
def engine(postgres: Postgres) -> Iterator[Engine]:
    with new_database(postgres, upgrade) as url:
        engine = open_database(url)
        yield engine
        engine.dispose()


def end_lease(engine: Engine, owner: str) -> None:
    """As if so much time had passed."""
    with writing(engine) as connection:
        for table in (lease_tables.slots, lease_tables.collectors):
            connection.execute(
                update(table)
                .where(table.c.owner == owner)
                .values(until=func.now() - func.make_interval(0, 0, 0, 0, 0, 0, 0.001))
            )


@pytest.mark.postgresql
class TestDatabase:
    def test_the_migrations_build_the_tables_that_the_code_uses(self, engine: Engine) -> None:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": "ingest_version"})
            own = {table.name for table in lease_tables.metadata.sorted_tables}
            found = compare_metadata(context, lease_tables.metadata)
        assert [one for one in found if one[0] != "remove_table" or one[1].name in own] == []
        assert leases.ready(engine)

    def test_a_term_is_raised_above_one_that_was_found_and_only_by_the_owner(self, engine: Engine) -> None:
        keep(engine, "a", 2, LEASE)
        lift(engine, "a", 0, 7)
        lift(engine, "b", 1, 7)
        assert keep(engine, "a", 2, LEASE).terms == {0: 8, 1: 1}
        lift(engine, "a", 0, 3)
        assert keep(engine, "a", 2, LEASE).terms == {0: 8, 1: 1}

    def test_shares_terms_and_leaving(self, engine: Engine) -> None:
        assert keep(engine, "a", 4, LEASE)[:3] == ({0: 1, 1: 1, 2: 1, 3: 1}, [], 0)
        assert keep(engine, "b", 4, LEASE)[:3] == ({}, [], 0), "all of them have an owner"
        assert keep(engine, "a", 4, LEASE).give == [2]
        release(engine, "a", [2])
        release(engine, "b", [3])  # it is not b's to give
        assert keep(engine, "b", 4, LEASE).terms == {2: 2}
        assert keep(engine, "a", 4, LEASE)[:3] == ({0: 1, 1: 1, 3: 1}, [3], 0)
        leave(engine, "a")
        assert keep(engine, "b", 4, LEASE)[:3] == ({0: 2, 1: 2, 2: 2, 3: 2}, [], 0)

    def test_a_dead_ones_slots_are_taken_when_its_lease_is_over_and_it_learns_of_it(
        self, engine: Engine
    ) -> None:
        assert keep(engine, "a", 2, LEASE).terms == {0: 1, 1: 1}
        assert keep(engine, "b", 2, LEASE).terms == {}
        end_lease(engine, "a")
        assert keep(engine, "b", 2, LEASE).terms == {0: 2, 1: 2}
        assert keep(engine, "a", 2, LEASE).terms == {}

    def test_who_was_away_keeps_what_nobody_has_taken(self, engine: Engine) -> None:
        keep(engine, "a", 2, LEASE)
        end_lease(engine, "a")
        assert keep(engine, "a", 2, LEASE).terms == {0: 1, 1: 1}

    def test_who_has_no_share_keeps_what_it_has_and_leaves_the_rest_to_others(self, engine: Engine) -> None:
        assert keep(engine, "wrong", 2, LEASE, share=False).terms == {0: 1, 1: 1}, "nobody else is there"
        release(engine, "wrong", [0])
        keep(engine, "b", 2, LEASE, take=False)
        assert keep(engine, "wrong", 2, LEASE, share=False)[:3] == ({1: 1}, [], 1)
        assert keep(engine, "b", 2, LEASE).terms == {0: 2}
        release(engine, "b", [0])
        leave(engine, "b")
        assert keep(engine, "wrong", 2, LEASE, take=False, share=False)[:3] == ({1: 1}, [], 1)

    def test_it_says_the_databases_time(self, engine: Engine) -> None:
        before = SystemClock().now()
        assert before <= keep(engine, "a", 2, LEASE).now <= SystemClock().now()

    def test_many_at_once_never_share_a_slot(self, engine: Engine) -> None:
        names = [f"c{number}" for number in range(6)]
        with ThreadPoolExecutor(6) as pool:
            for _ in range(4):
                found = list(pool.map(lambda name: _keep(engine, name), names))
                for name, held in zip(names, found, strict=True):
                    release(engine, name, held.give)
        with engine.connect() as connection:
            has = dict(
                connection.execute(select(lease_tables.slots.c.slot, lease_tables.slots.c.owner)).all()
            )
        held = {name: _keep(engine, name) for name in names}
        for name in names:
            assert {slot for slot, owner in has.items() if owner == name} <= set(held[name].terms)
        together = [slot for one in held.values() for slot in one.terms]
        assert len(together) == len(set(together))

    def test_a_database_that_is_away_is_said(self, postgres: Postgres) -> None:
        away = open_database("postgresql+psycopg://nobody:wrong@127.0.0.1:1/none")
        with pytest.raises(DatabaseBusy):
            keep(away, "a", 2, LEASE)
        away.dispose()


def _keep(engine: Engine, name: str) -> leases.Held:
    return keep(engine, name, 16, LEASE)
