"""Laws of the queue: in order, nothing lost, nothing twice, whatever is killed; a lease that runs out; a limit that holds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as search
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jachai.core.errors import UsageError
from jachai.service.access import Access, RateLimit
from jachai.service.database import Database
from jachai.service.jobs import Job, Jobs, NewScan, QueueFull, State, new_id

LEASE = 60.0


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def jobs_in(database: Database, clock: Clock, limit: int = 100, most_attempts: int = 3) -> Jobs:
    return Jobs(database, limit=limit, lease_seconds=LEASE, most_attempts=most_attempts, clock=clock)


def scan(content: str = "") -> NewScan:
    scan_id = new_id()
    return NewScan(scan_id, content or scan_id, "a label", 1, 10)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "x.sqlite")
    yield opened
    opened.close()


def test_it_is_written_as_was_promised(database: Database) -> None:
    pragmas = {name: database.rows(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "locking_mode")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "locking_mode": "exclusive"}


def test_a_second_server_on_the_same_folder_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in use"):
        Database(tmp_path / "x.sqlite")


def test_another_file_and_a_later_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("something else entirely " * 100)
    with pytest.raises(UsageError, match="no database"):
        Database(tmp_path / "text.sqlite")
    later = Database(tmp_path / "later.sqlite")
    with later.transaction() as connection:
        connection.execute("PRAGMA user_version=99")
    later.close()
    with pytest.raises(UsageError, match="later version"):
        Database(tmp_path / "later.sqlite")


def test_what_was_committed_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from jachai.service.database import Database;"
        "from jachai.service.jobs import Jobs, NewScan;"
        "jobs = Jobs(Database(Path(sys.argv[1])), limit=9, lease_seconds=9, most_attempts=3);"
        "[jobs.add(NewScan(str(n), str(n), 'x', 1, 1)) for n in range(5)]; jobs.claim();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.sqlite")])
    assert done.returncode == -9
    database = Database(tmp_path / "x.sqlite")
    jobs = jobs_in(database, Clock())
    assert jobs.counts()[State.QUEUED] == 4 and jobs.counts()[State.RUNNING] == 1
    assert [job.id for job in jobs.recover()] == ["0"]
    claimed = [job.id for _ in range(5) if (job := jobs.claim())]
    assert claimed == ["0", "1", "2", "3", "4"] and jobs.get("0").attempt == 2
    database.close()


def test_positions_count_from_one(database: Database, clock: Clock) -> None:
    jobs = jobs_in(database, clock)
    first, second, third = (jobs.add(scan())[0] for _ in range(3))
    assert [jobs.get(job.id).position for job in (first, second, third)] == [1, 2, 3]
    jobs.claim()
    assert [jobs.get(job.id).position for job in (first, second, third)] == [None, 1, 2]


def test_progress_is_seen_at_once_and_written_now_and_then(database: Database, clock: Clock) -> None:
    jobs = jobs_in(database, clock)
    jobs.add(scan())
    job = claimed(jobs)
    assert jobs.beat(job, "reading", 0.25)
    clock.now += 0.5
    assert jobs.beat(job, "reading", 0.75)
    assert (jobs.get(job.id).stage, jobs.get(job.id).fraction) == ("reading", 0.75)
    assert database.rows("SELECT fraction FROM scans")[0]["fraction"] == 0.25


def test_a_lease_runs_out_without_a_sign_of_life(database: Database, clock: Clock) -> None:
    jobs = jobs_in(database, clock)
    jobs.add(scan())
    job = claimed(jobs)
    for _ in range(5):
        clock.now += LEASE - 1
        assert jobs.overdue() == [] and jobs.beat(job, "examining", 0.5)
    clock.now += LEASE + 1
    assert [late.id for late in jobs.overdue()] == [job.id]
    assert jobs.take_back(job, "examiner-ended", "It ended.") is State.QUEUED
    again = claimed(jobs)
    assert again.attempt == 2 and jobs.overdue() == []


def test_what_an_attempt_says_that_is_over_is_not_taken(database: Database, clock: Clock) -> None:
    jobs = jobs_in(database, clock)
    jobs.add(scan())
    old = claimed(jobs)
    jobs.take_back(old, "examiner-ended", "")
    new = claimed(jobs)
    assert not jobs.finish(old, [{"verdict": "old"}], {}) and not jobs.beat(old, "x", 1.0)
    assert jobs.finish(new, [{"verdict": "new"}], {}) and not jobs.finish(new, [{"verdict": "twice"}], {})
    assert [result["verdict"] for result in jobs.get(new.id).results] == ["new"]


def test_a_scan_that_ends_its_examiner_is_given_up(database: Database, clock: Clock) -> None:
    jobs = jobs_in(database, clock, most_attempts=3)
    jobs.add(scan("c"))
    for state in (State.QUEUED, State.QUEUED, State.FAILED):
        assert jobs.take_back(claimed(jobs), "examiner-ended", "It ended.") is state
    assert jobs.claim() is None
    [row] = jobs.page(5)
    assert (row.state, row.error_code, row.error_detail) == (State.FAILED, "examiner-ended", "It ended.")
    again, new = jobs.add(scan("c"))
    assert new and again.id != row.id and [job.id for job in jobs.page(5)] == [again.id]


def test_the_limit_holds(database: Database, clock: Clock) -> None:
    jobs = jobs_in(database, clock, limit=2)
    jobs.add(scan("a"))
    jobs.add(scan())
    for ask in (jobs.check_room, lambda: jobs.add(scan())):
        with pytest.raises(QueueFull):
            ask()
    assert jobs.add(scan("a"))[1] is False, "what is there already needs no room"
    jobs.finish(claimed(jobs), [], {})
    assert jobs.add(scan())[1]


def claimed(jobs: Jobs) -> Job:
    job = jobs.claim()
    assert job is not None
    return job


class QueueOfAnyHistory(RuleBasedStateMachine):
    """Any sequence of what can happen: every scan handed in is in exactly one state, and is done at most once."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.database = Clock(), Database(Path(":memory:"))
        self.jobs = jobs_in(self.database, self.clock, limit=6, most_attempts=99)
        self.known: set[str] = set()
        self.handed_in = 0
        self.running: Job | None = None
        self.stale: list[Job] = []
        self.done: list[str] = []

    @rule(content=st.sampled_from("abcdefgh"))
    def hand_in(self, content: str) -> None:
        self.handed_in += 1  # drawn ids would sort, and be drawn from, in another order when a failure is replayed
        new = NewScan(f"{self.handed_in:04}", content, "a label", 1, 10)
        try:
            job, added = self.jobs.add(new)
        except QueueFull:
            counts = self.jobs.counts()
            assert counts[State.QUEUED] + counts[State.RUNNING] == 6
            return
        assert (job.id == new.id) is added
        if added:
            self.known = {i for i in self.known if i in self.jobs.ids()} | {job.id}

    @precondition(lambda self: self.running is None)
    @rule()
    def claim(self) -> None:
        waiting = [job for job in self.jobs.page(200) if job.state is State.QUEUED]
        self.running = self.jobs.claim()
        assert (self.running.id if self.running else None) == (
            min(waiting, key=lambda j: j.seq).id if waiting else None
        )

    @precondition(lambda self: self.running is not None)
    @rule()
    def finish(self) -> None:
        assert self.running is not None
        if self.jobs.finish(self.running, [], {}):
            self.done.append(self.running.id)
        self.running = None

    @precondition(lambda self: self.running is not None)
    @rule()
    def killed(self) -> None:
        """Another start of the server finds what this one held; the old child may still talk."""
        assert self.running is not None
        self.stale.append(self.running)
        self.jobs = jobs_in(self.database, self.clock, limit=6, most_attempts=99)
        self.jobs.recover()
        self.running = None

    @precondition(lambda self: bool(self.stale))
    @rule()
    def the_dead_speak(self) -> None:
        assert not self.jobs.finish(self.stale[-1], [], {})

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.known:
            try:
                self.jobs.cancel(data.draw(st.sampled_from(sorted(self.known))))
            except (UsageError, KeyError):
                return

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.known:
            gone = data.draw(st.sampled_from(sorted(self.known)))
            if gone in self.jobs.ids():
                self.jobs.delete(gone)
            self.known.discard(gone)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert self.known == self.jobs.ids()
        assert len(self.done) == len(set(self.done))
        running = [job.id for job in self.jobs.page(200) if job.state is State.RUNNING]
        assert running == ([self.running.id] if self.running and self.jobs.is_current(self.running) else [])

    def teardown(self) -> None:
        self.database.close()


TestQueueOfAnyHistory = QueueOfAnyHistory.TestCase
TestQueueOfAnyHistory.settings = search(max_examples=25, stateful_step_count=30)


def test_sessions_end(database: Database, clock: Clock) -> None:
    access = Access(database, session_seconds=100, clock=clock)
    assert not access.has_token()
    token = access.new_token()
    assert access.has_token() and access.by_token(token + "x") is None
    who = access.by_token(token)
    assert who is not None and token not in who
    session = access.open_session(who)
    assert access.by_session(session) == who and access.by_session("x") is None
    clock.now += 101
    assert access.by_session(session) is None


def test_the_rate_limit_refills_evenly(clock: Clock) -> None:
    limit = RateLimit(6, 60.0, clock)
    assert [limit.wait("a") for _ in range(6)] == [0.0] * 6
    assert limit.wait("a") == pytest.approx(10.0) and limit.wait("b") == 0.0
    clock.now += 10.1
    assert limit.wait("a") == 0.0 and limit.wait("a") > 9
