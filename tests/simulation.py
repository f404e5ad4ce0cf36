"""One story of a world, drawn from a seed: users, crashes, weather; then quiet, then the rules."""

import asyncio
import random
from contextlib import contextmanager
from datetime import timedelta

import structlog
import virtual_time
from fake_sqs import Odds
from faulty_wire import CALM, Weather
from world import KINDS, World
from world_rules import broken_rules

WEATHERS = {
    "calm": CALM,
    "crashes": Weather(crash=0.01),
    "failing": Weather(fails=0.1, reply_lost=0.1),
    "slow": Weather(slow=0.05),
    "storm": Weather(fails=0.05, reply_lost=0.05, slow=0.02, crash=0.003),
}
LIVELY = Odds(twice=0.1, late=0.2, entry_fails=0.05)


def simulate(seed, *, events=25):
    """Run one story to its end. Returns every rule that it broke, and what happened in it."""
    with undisturbed():
        random.seed(seed)  # the workers' own jitter
        return virtual_time.run(_story(seed, events))


@contextmanager
def undisturbed():
    """No log, and no trace in anybody else's random numbers."""
    before = random.getstate()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    try:
        yield
    finally:
        structlog.reset_defaults()
        random.setstate(before)


async def _story(seed, events):
    world = World(seed, odds=LIVELY)
    rng, told = world.rng, []
    world.lost_notifications = rng.choice((0, 0, 0.1))
    await world.begin(workers=rng.randint(1, 3))
    for happens in (_drop, _drop, *rng.choices(_ACTS, k=events)):
        await asyncio.sleep(rng.choice((0, 0.01, 1, 5, 30, 90)))
        told.append(f"{asyncio.get_running_loop().time():9.2f} {happens.__name__[1:]} {await happens(world) or ''}")
    await world.quiet_down()
    return broken_rules(world), told


# ---------------------------------------------------------------- what may happen


async def _drop(world):
    seconds = world.rng.choice((0, 1, 10, 100))
    session = world.rng.randint(1, 4)
    if any(plan.closed for job, plan in world.plans.items() if job.session_id == f"session-{session:02}"):
        session = 10 + len(world.plans)
    kind = world.rng.choice(KINDS)
    job = await world.drop(f"{session:02}", kind, seconds=seconds, failures=world.rng.randint(1, 3))
    return f"{job} {kind} {seconds} s"


async def _duplicate(world):
    if not world.plans:
        return None
    key = world.rng.choice(list(world.plans)).manifest_key("query")
    world.tell(key)
    return key


async def _cancel(world):
    open_jobs = [job for job, plan in world.plans.items() if not plan.closed]
    if not open_jobs:
        return None
    job = world.rng.choice(open_jobs)
    await world.cancel(job)
    return job


async def _undo(world):
    open_jobs = [job for job, plan in world.plans.items() if not plan.closed]
    if not open_jobs:
        return None
    job = world.rng.choice(open_jobs)
    await world.undo(job)
    return job


async def _close(world):
    sessions = sorted({job.session_id for job, plan in world.plans.items() if not plan.closed})
    if not sessions:
        return None
    session = world.rng.choice(sessions)
    await world.close(session.removeprefix("session-"))
    return session


async def _crash(world):
    worker = _any_worker(world)
    worker.crash()
    world.start_worker()
    return worker.name


async def _freeze(world):
    worker, seconds = _any_worker(world), world.rng.choice((3, 61, 200))
    worker.freeze(seconds)
    return f"{worker.name} {seconds} s"


async def _stop(world):
    worker = _any_worker(world)
    worker.stop()
    world.start_worker()
    return worker.name


async def _clock(world):
    worker, seconds = _any_worker(world), world.rng.choice((-3600, -70, 70, 3600))
    worker.skew += timedelta(seconds=seconds)
    return f"{worker.name} {seconds:+} s"


async def _weather(world):
    name = world.rng.choice(list(WEATHERS))
    world.change_weather(WEATHERS[name])
    return name


def _any_worker(world):
    running = [worker for worker in world.workers if worker.runs]
    if not running:
        world.start_worker()
        running = world.workers[-1:]
    return world.rng.choice(running)


_ACTS = (_drop,) * 6 + (_duplicate, _cancel, _undo, _close, _crash, _freeze, _stop, _clock, _weather, _weather)
