"""What must hold when parts of a cluster die under load: real Kafka, PostgreSQL, mosquitto, and the machine's clock."""

from pathlib import Path

import pytest

from deploy.dev.services import Kafka, Postgres
from registry.clock import SECOND, SystemClock
from tests.cluster_load import INTERVAL, ON_DELAY, City, city, write_city
from tests.cluster_rehearsal import API, DESK, cluster_rehearsal
from tests.servers import needs_mosquitto, running

pytestmark = [pytest.mark.kafka, pytest.mark.postgresql, pytest.mark.mosquitto, needs_mosquitto]

now = SystemClock().now


def both_work(plants: City, *workers: str) -> None:
    plants.until("all workers work", lambda: all(plants.running.owned(name) for name in workers))


def test_a_worker_and_the_desk_are_killed_under_load(
    tmp_path: Path, kafka: Kafka, postgres: Postgres
) -> None:
    codes = write_city(tmp_path / "registry", enterprises=6, points=8)
    cluster = cluster_rehearsal(tmp_path, tmp_path / "registry", None, kafka, postgres, workers=2)
    with cluster as house, city(house, codes, 8) as plants:
        both_work(plants, "evaluate-1", "evaluate-2")
        lost, killed = house.owned("evaluate-1"), now()
        house.lose("evaluate-1")
        house.kill(DESK)
        house.start_role(DESK)
        print(f"\na worker lost, of slots {lost}: {plants.takeover(killed, lost)}")
        plants.calm()
        plants.settle("a worker and the desk killed")
        plants.check_histories()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_one_fault_after_another_loses_and_doubles_nothing(tmp_path: Path) -> None:
    codes = write_city(tmp_path / "registry", enterprises=20, points=20)
    with running(Kafka) as kafka, running(Postgres) as postgres:
        cluster = cluster_rehearsal(
            tmp_path, tmp_path / "registry", None, kafka, postgres, workers=2, slots=6
        )
        with cluster as house, city(house, codes, 20) as plants:
            every = range(6)
            both_work(plants, "evaluate-1", "evaluate-2")
            plants.lives(5)
            plants.settle("\nnothing")

            lost, killed = house.owned("evaluate-1"), now()
            house.kill("evaluate-1")  # it is started again
            print(f"a worker killed, of slots {lost}: {plants.takeover(killed, lost)}")
            plants.settle("a worker killed")

            joined = now()
            house.start_role("evaluate-3")
            plants.until("all workers work", lambda: house.owned("evaluate-3"))
            plants.lives(3)
            plants.settle("a worker joined")
            print(f"a worker joined: {plants.longest_pauses(joined)}")

            lost, killed = house.owned("evaluate-2"), now()
            house.lose("evaluate-2")
            print(f"a worker lost, of slots {lost}: {plants.takeover(killed, lost)}")
            plants.settle("a worker lost")

            house.kill(DESK)
            plants.lives(3)
            house.start_role(DESK)
            plants.lives(5)
            plants.settle("the desk killed")

            house.kill(API)
            plants.lives(3)
            house.start_role(API)
            plants.lives(5)
            plants.settle("the sender killed")

            killed = now()
            kafka.kill()
            kafka.start()
            print(f"Kafka killed and started anew, {(now() - killed) / SECOND:.0f} s away: ", end="")
            print(plants.takeover(killed, every))
            plants.deaf(killed)
            plants.lives(5)
            plants.settle("Kafka killed")

            killed = now()
            kafka.stop()
            plants.lives(60)
            kafka.start()
            print(f"Kafka stopped, {(now() - killed) / SECOND:.0f} s away: {plants.takeover(killed, every)}")
            plants.deaf(killed)
            plants.lives(5)
            plants.settle("Kafka stopped")

            killed = now()
            postgres.stop()
            plants.lives(60)
            postgres.start()
            house.database.dispose()
            print(f"PostgreSQL stopped, {(now() - killed) / SECOND:.0f} s away: ", end="")
            print(plants.takeover(killed, every))
            plants.lives(5)
            plants.settle("PostgreSQL stopped")

            plants.calm()
            plants.lives(10)
            plants.settle("all of it", nothing_new=True)
            plants.check_histories()
            plants.check_house()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_of_two_collectors_one_is_killed_and_no_reading_is_late(
    tmp_path: Path, kafka: Kafka, postgres: Postgres
) -> None:
    codes = write_city(tmp_path / "registry", enterprises=16, points=6)
    cluster = cluster_rehearsal(
        tmp_path, tmp_path / "registry", None, kafka, postgres, workers=2, collectors=2, slots=4
    )
    with cluster as house, city(house, codes, 6) as plants:
        both_work(plants, "evaluate-1", "evaluate-2")
        plants.lives(5)
        for name in ("collect-1", "collect-2"):
            said = house.collector(name)
            assert said is not None
            assert said.slots
            killed = now()
            house.kill(name)
            print(f"\n{name} killed, of slots {sorted(said.slots)}: {plants.takeover(killed, said.slots)}")
            plants.deaf(killed)
            plants.settle(f"{name} killed")
            house.start_role(name)  # it gets its share, which the other gives up
            plants.until(
                "it has its share", lambda one=name: house.shares() == {"collect-1": 2, "collect-2": 2}
            )
            plants.lives(5)
            plants.settle(f"{name} came back")
        plants.calm()
        plants.settle("all of it", nothing_new=True)
        plants.check_histories()
        plants.check_house()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_waits_in_a_moved_partition_comes_once_and_at_its_time(
    tmp_path: Path, kafka: Kafka, postgres: Postgres
) -> None:
    """On-delays and silence run while their partition is moved, and moved back."""
    codes = write_city(tmp_path / "registry", enterprises=12, points=6)
    cluster = cluster_rehearsal(tmp_path, tmp_path / "registry", None, kafka, postgres, workers=2, slots=4)
    with cluster as house, city(house, codes, 6) as plants:
        both_work(plants, "evaluate-1", "evaluate-2")
        plants.lives(5)
        plants.begin("D1", codes, 40)
        plants.lives(1.5)
        plants.mute("S1", codes)
        plants.lives(3)
        lost, killed = house.owned("evaluate-1"), now()
        house.lose("evaluate-1")
        print(f"\na worker lost, of slots {lost}: {plants.takeover(killed, lost)}")
        house.start_role("evaluate-3")
        both_work(plants, "evaluate-2", "evaluate-3")
        plants.until("all that waited is known", lambda: plants.knows("D1") and plants.knows("S1"))
        plants.unmute("S1", codes)
        plants.lives(5)
        house.kill("evaluate-2")
        plants.lives(40)
        plants.calm()
        plants.settle("partitions moved")
        for alert in plants.alerts():
            it = plants.planned()[alert.rule, alert.enterprise, alert.subject]
            [begun] = [step for step in house.steps(alert.id) if step.event == "begun"]
            finding = begun.detail.finding
            assert finding is not None
            if alert.subject == "point:D1":
                sent = plants.sent[alert.enterprise, "D1"]
                assert finding.time == next(time for time in sent if time >= it.since + ON_DELAY)
            elif alert.rule == "silent":
                assert abs(alert.since - (it.since + INTERVAL)) < SECOND
        plants.check_histories()
