"""Whatever happens to workers, queues and store: every drop ends once, and nothing is left behind."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from simulation import LIVELY, WEATHERS, simulate, undisturbed
from virtual_time import VirtualTimeLoop
from world import KINDS, World
from world_rules import broken_rules

FEW, MANY = 60, 5_000
LANES = 2


@pytest.mark.timeout(3600)
def test_no_story_breaks_a_rule(request):
    for seed in range(MANY if request.config.getoption("long") else FEW):
        broken, told = simulate(seed)

        assert not broken, "\n".join([f"seed {seed}", *told, *broken])


class WorkerMachine(RuleBasedStateMachine):
    """The same world, in steps that shrink."""

    def __init__(self):
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.world = None
        self._calm = undisturbed()
        self._calm.__enter__()

    def _run(self, story):
        return self.loop.run_until_complete(story)

    @initialize(seed=st.integers(0, 1_000), workers=st.integers(1, 3), lively=st.booleans())
    def begin(self, seed, workers, lively):
        async def story():
            self.world = World(seed, odds=LIVELY if lively else None)
            await self.world.begin(workers)

        self._run(story())

    @rule(session=st.integers(1, 3), kind=st.sampled_from(KINDS), seconds=st.sampled_from((0, 10, 100)))
    def drop(self, session, kind, seconds):
        closed = any(plan.closed for job, plan in self.world.plans.items() if job.session_id == f"session-0{session}")
        name = f"{10 + len(self.world.plans)}" if closed else f"0{session}"
        self._run(self.world.drop(name, kind, seconds=seconds))

    def _job(self, index):
        return list(self.world.plans)[index % len(self.world.plans)]

    @precondition(lambda self: self.world.plans)
    @rule(index=st.integers(0, 9))
    def tell_again(self, index):
        async def story():
            self.world.tell(self._job(index).manifest_key("query"))

        self._run(story())

    @precondition(lambda self: self.world.plans)
    @rule(index=st.integers(0, 9), what=st.sampled_from(("cancel", "undo", "close")))
    def control(self, index, what):
        job = self._job(index)
        if what == "close":
            self._run(self.world.close(job.session_id.removeprefix("session-")))
        elif not self.world.plans[job].closed:
            self._run(getattr(self.world, what)(job))

    @rule(index=st.integers(0, 9), what=st.sampled_from(("crash", "stop", "freeze")), seconds=st.integers(1, 200))
    def disturb(self, index, what, seconds):
        async def story():
            running = [worker for worker in self.world.workers if worker.runs]
            worker = running[index % len(running)] if running else None
            if worker is not None and what == "freeze":
                worker.freeze(seconds)
                return
            self.world.start_worker()
            if worker is not None:
                getattr(worker, what)()

        self._run(story())

    @rule(name=st.sampled_from(sorted(WEATHERS)))
    def weather(self, name):
        self.world.change_weather(WEATHERS[name])

    @rule(seconds=st.sampled_from((0.01, 1, 10, 60, 400)))
    def time_passes(self, seconds):
        self._run(asyncio.sleep(seconds))

    def teardown(self):
        try:
            if self.world is not None:
                self._run(self.world.quiet_down())
                assert broken_rules(self.world) == []
        finally:
            self._calm.__exit__(None, None, None)
            self.loop.close()


@pytest.mark.timeout(3600)
def test_no_sequence_of_steps_breaks_a_rule(request):
    examples = 1_000 if request.config.getoption("long") else 25
    run_state_machine_as_test(WorkerMachine, settings=settings(max_examples=examples, stateful_step_count=25))
