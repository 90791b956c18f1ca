"""What a node writes down of its jobs, and what `dsdp profile` makes of that."""

import dataclasses
import time

import pytest
import trio

from dsdproto.registry import Role
from dsdproto.roles.work import DraftDone, DraftWork, ExpandItem, VerifyDone, VerifyWork
from reference_nodes.job_trace import AT_ONCE, Job, JobTrace, TraceError, read_jobs
from reference_nodes.profile.document import ProfileError
from reference_nodes.profile.overhead import LEAST, SESSIONS, Served, Span, drafter_costs, verifier_costs

EXPAND = ExpandItem("s", (1, 2, 3), (7,), (0,), (0, 1), None, 2)


class Model:
    """Computes for so much processor time of its own thread; messages come in meanwhile."""

    def __init__(self, inline=False):
        self.inline, self.messages = inline, 0

    def run(self, work):
        self.messages += 2
        return DraftDone((), 0.0) if isinstance(work, DraftWork) else VerifyDone((), 4, 0, 0.0)


@pytest.mark.parametrize("inline", [False, True])
def test_a_job_leaves_what_it_was_and_what_happened_meanwhile(tmp_path, inline):
    model, path = Model(inline), tmp_path / "jobs.jsonl"
    trace = JobTrace(path, lambda: model.messages)
    traced = trace.wrap(Role.DRAFTER, model)
    assert traced.inline == inline
    traced.run(DraftWork((EXPAND, EXPAND), ()))
    model.messages += 5
    traced.run(VerifyWork((), None, ()))
    trace.close()
    first, second = read_jobs(path)
    assert (first.role, first.rows, first.sessions, first.context, first.prefill) == ("drafter", 4, 2, 6, False)
    assert (first.messages_before, first.messages, second.messages_before, second.messages) == (0, 2, 5, 2)
    assert first.begin <= first.end <= second.begin <= second.end
    assert second.rows == second.sessions == 0


def test_the_loops_own_time_is_told_from_that_of_the_job(tmp_path):
    model = Model()
    trace = JobTrace(tmp_path / "jobs.jsonl", lambda: 0)
    traced = trace.wrap(Role.DRAFTER, model)

    async def main():
        await trio.to_thread.run_sync(traced.run, DraftWork((EXPAND,), ()))

    def compute(work, run=model.run):
        # As long as the loop needs for its part; then the job itself works, and that is not the loop's time.
        trio.from_thread.run_sync(spend)
        spend()
        return run(work)

    def spend():
        begin = time.thread_time()
        while time.thread_time() < begin + 0.02:
            continue

    model.run = compute
    trio.run(main)
    trace.close()
    (found,) = read_jobs(tmp_path / "jobs.jsonl")
    if hasattr(time, "pthread_getcpuclockid"):
        assert 0.02 <= found.loop_s < found.end - found.begin - 0.019


def test_lines_reach_the_file_in_bundles_and_all_of_them_in_the_end(tmp_path):
    path = tmp_path / "jobs.jsonl"
    trace = JobTrace(path, lambda: 0)
    traced = trace.wrap(Role.DRAFTER, Model())
    for _ in range(AT_ONCE + 1):
        traced.run(DraftWork((EXPAND,), ()))
    assert len(read_jobs(path)) == AT_ONCE
    trace.close()
    assert len(read_jobs(path)) == AT_ONCE + 1
    traced.run(DraftWork((EXPAND,), ()))  # a thread that was still at work
    assert len(read_jobs(path)) == AT_ONCE + 1


def test_a_trace_that_cannot_be_written_or_read_is_refused(tmp_path):
    with pytest.raises(TraceError, match=r"cannot write the trace of jobs .*nowhere"):
        JobTrace(tmp_path / "nowhere" / "jobs.jsonl", lambda: 0)
    (tmp_path / "bad.jsonl").write_text('{"role": "verifier"}\n')
    for name in ("bad.jsonl", "none.jsonl"):
        with pytest.raises(TraceError, match=f"cannot read a trace of jobs from .*{name}"):
            read_jobs(tmp_path / name)


# ---------------------------------------------------------------- costs of a node


def lined_up(role, count, took, gap, at=0.0, sessions=1, before=(), **what):
    """``count`` jobs one after the other; ``before``: numbers of those that a message came before."""
    jobs = []
    for number in range(count):
        jobs.append(
            Job(
                role,
                at,
                at + took,
                sessions,
                sessions,
                64,
                False,
                int(number in before),
                **({"messages": 0, "loop_s": 0.0} | what),
            )
        )
        at += took + gap + (1.0 if number + 1 in before else 0.0)
    return jobs


SERVED = Served(Span(0.0, 100.0), Span(100.0, 200.0), Span(200.0, 300.0), Span(300.0, 400.0), 0.0, 0)


def test_a_verifiers_costs_are_a_step_a_session_and_a_message():
    jobs = lined_up("verifier", 20, 0.02, 0.001, loop_s=0.0002)
    jobs += lined_up("verifier", 20, 0.06, 0.0025, at=100.0, sessions=SESSIONS, loop_s=0.0002)
    # Three messages a step, half a millisecond each, besides what the loop does in any case.
    jobs += lined_up("verifier", 20, 0.03, 0.009, at=200.0, messages=3, loop_s=0.0017)
    found = verifier_costs([*jobs, *lined_up("drafter", 40, 0.01, 0.5, at=200.0)], SERVED)
    assert found == {"verify_overhead_s": 0.0007, "verify_session_s": 0.0005, "verify_message_s": 0.0005}


@pytest.mark.parametrize(
    ("gap", "overhead", "session"),
    [(0.0007, 0.0010, 0.0), (0.0037, 0.0001, 0.0009), (0.0076, 0.0, 0.0019)],
    ids=["several were quicker than one", "as expected", "several took more than as many alone"],
)
def test_neither_part_of_a_verifiers_step_is_below_nothing(gap, overhead, session):
    jobs = lined_up("verifier", 20, 0.02, 0.001)
    jobs += lined_up("verifier", 20, 0.06, gap, at=100.0, sessions=SESSIONS)
    found = verifier_costs(jobs, SERVED)
    assert (found["verify_overhead_s"], found["verify_session_s"]) == (overhead, session)


def test_a_drafter_that_waited_for_a_message_was_not_slow():
    quiet = lined_up("drafter", 20, 0.006, 0.0009, at=200.0, before=(5, 9), loop_s=0.0001)
    busy = lined_up("drafter", 20, 0.006, 0.0009, at=240.0, messages=2, loop_s=0.0009)
    # What the loop does for a message while a job runs is the message's, not the step's.
    assert drafter_costs(quiet + busy, SERVED) == {"draft_overhead_s": 0.001, "draft_message_s": 0.0004}


def test_a_drafter_that_nearly_always_waits_shows_what_it_takes_when_it_waits_least():
    jobs = lined_up("drafter", LEAST + 1, 0.006, 0.0004, at=200.0)
    jobs += lined_up("drafter", 80, 0.006, 0.3, at=201.0)
    jobs = [dataclasses.replace(job, messages_before=1) for job in jobs]
    assert drafter_costs(jobs, SERVED)["draft_overhead_s"] == 0.0004


def test_too_few_jobs_say_nothing():
    few = lined_up("verifier", LEAST - 1, 0.02, 0.001)
    with pytest.raises(ProfileError, match=f"{LEAST - 2} verifications to look at, {LEAST} are needed"):
        verifier_costs(few, SERVED)
    with pytest.raises(ProfileError, match="0 expansions"):
        drafter_costs(few, SERVED)
