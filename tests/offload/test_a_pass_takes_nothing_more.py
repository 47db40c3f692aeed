"""All memory, files and threads are there before the first pass: none comes between the first step and the last."""

import os

import numpy as np
import pytest

from wanoffload import _core

POLICIES = [
    dict(level="resident"),
    dict(level="block", blocks_per_group=1, tier="host", use_stream=True),
    dict(level="leaf", tier="disk", use_stream=True),
    dict(level="leaf", tier="disk"),
]


class Watched:
    """An exec that notes, after each of its calls, how many files are open and which threads there are."""

    def __init__(self, execution):
        self._execution = execution
        self.files, self.threads = set(), set()

    def __getattr__(self, name):
        def call(*args, **kwargs):
            result = getattr(self._execution, name)(*args, **kwargs)
            self.files.add(len(os.listdir("/proc/self/fd")))
            self.threads.add(frozenset(os.listdir("/proc/self/task")))
            return result

        return call


@pytest.fixture
def failing_allocations():
    yield
    _core._testing.fail_allocation(0)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: "-".join(map(str, p.values())))
def test_a_pass_allocates(subject, policy, failing_allocations):
    engine = _core.Engine("cpu")
    plan = subject.plan(engine, policy)
    with _core.Exec(engine, subject.component, plan) as execution:
        _core._testing.fail_allocation(1)
        results = subject.compute(execution)
    assert all(np.isfinite(result).all() for result in results)
    with pytest.raises(MemoryError):  # the switch was on all the time
        engine.drop()
        _core.Exec(engine, subject.component, plan)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads and files in /proc")
@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: "-".join(map(str, p.values())))
def test_a_pass_opens_a_file_or_starts_a_thread(transformer, policy):
    engine = _core.Engine("cpu")
    with _core.Exec(engine, transformer.component, transformer.plan(engine, policy)) as execution:
        before = frozenset(os.listdir("/proc/self/task"))
        watched = Watched(execution)
        transformer.compute(watched)
    assert watched.threads == {before}
    assert len(watched.files) == 1
