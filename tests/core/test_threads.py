"""Threads and signals: one call at a time, Ctrl-C at any moment, and the interpreter's exit."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core.models import SIZES, STREAMED, TIMES, Models, Slow, embeds, latents, velocity

import wanoffload._core as core
from wanoffload.errors import BusyError


def test_a_second_call_on_one_engine_is_refused_at_once(engine: core.Engine, models: Models) -> None:
    with Slow(engine, models) as slow:
        calls: list[Callable[[], Any]] = [
            lambda: models.plan(engine, {}),
            lambda: core.Exec(engine, models.transformer, slow.plan),
            lambda: slow.execution.step(latents(), TIMES),
            lambda: slow.execution.prepare(embeds(), **SIZES),
            slow.execution.close,
            engine.held,
            engine.drop,
            engine.drop_residents,
            engine.release_arena,
            lambda: engine.reserve(1),
            lambda: core._testing.configure(engine),
        ]
        for call in calls:
            with pytest.raises(BusyError, match="one call at a time"):
                call()
        assert slow.thread.is_alive()
    assert np.array_equal(slow.outcome, velocity(engine, models, {}))


def test_other_engines_work_meanwhile(engine: core.Engine, models: Models) -> None:
    expected = velocity(engine, models, {})
    other = core.Engine()
    velocity(other, models, {"level": "resident"})
    with Slow(engine, models) as slow:
        assert np.array_equal(velocity(other, models, {"level": "resident"}), expected)
    assert np.array_equal(slow.outcome, expected)


def test_a_cancelled_engine_does_not_stop_another(engine: core.Engine, models: Models) -> None:
    expected = velocity(engine, models, {})
    other = core.Engine()
    plan = models.plan(other, {"level": "resident"})
    with core.Exec(other, models.transformer, plan) as execution:
        execution.prepare(embeds(), **SIZES)
        with Slow(engine, models) as slow:
            engine.cancel()
            for _ in range(10):
                assert np.array_equal(execution.step(latents(), TIMES), expected)
    assert isinstance(slow.outcome, KeyboardInterrupt)


def test_cancel_stops_the_call_of_another_thread(engine: core.Engine, models: Models) -> None:
    with Slow(engine, models) as slow:
        engine.cancel()
    assert isinstance(slow.outcome, KeyboardInterrupt)
    assert core._testing.tiles_after_cancel(engine) <= core.get_num_threads()
    assert np.array_equal(velocity(engine, models, STREAMED), velocity(engine, models, {}))


def test_what_is_collected_during_a_call_goes_at_its_end(engine: core.Engine, models: Models, demo_model: Path) -> None:
    others = Models(demo_model)
    velocity(engine, others, {"level": "resident"})
    with Slow(engine, models):
        del others
    assert engine.held()["resident_bytes"] == 0


def interrupt_soon(number: int = signal.SIGINT) -> threading.Timer:
    timer = threading.Timer(0.2, os.kill, (os.getpid(), number))
    timer.start()
    return timer


def slow_step(engine: core.Engine, models: Models) -> np.ndarray:
    with core.Exec(engine, models.transformer, models.plan(engine, STREAMED)) as execution:
        execution.prepare(embeds(), **SIZES, follow=False)
        core._testing.delay_reads(0.05)
        try:
            return execution.step(latents(), TIMES)
        finally:
            core._testing.delay_reads(0.0)


def test_ctrl_c_stops_a_step_and_all_is_usable_again(engine: core.Engine, models: Models) -> None:
    expected = velocity(engine, models, {})
    for _ in range(2):
        timer = interrupt_soon()
        with pytest.raises(KeyboardInterrupt):
            slow_step(engine, models)
        timer.join()
        assert np.array_equal(velocity(engine, models, STREAMED), expected)


def test_ctrl_c_stops_the_opening(engine: core.Engine, models: Models) -> None:
    core._testing.delay_reads(0.05)
    timer = interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        core.Exec(engine, models.transformer, models.plan(engine, {"level": "resident"}))
    timer.join()
    core._testing.delay_reads(0.0)
    assert velocity(engine, models, {}).shape == (2, 16, 1, 4, 6)


def test_a_failed_exec_is_fit_only_for_close(engine: core.Engine, models: Models) -> None:
    with core.Exec(engine, models.transformer, models.plan(engine, STREAMED)) as execution:
        execution.prepare(embeds(), **SIZES, follow=False)
        core._testing.fail_read(3)
        with pytest.raises(OSError, match="(?i)input/output|safetensors"):
            execution.step(latents(), TIMES)
        with pytest.raises(ValueError, match="failed in an earlier call"):
            execution.step(latents(), TIMES)
    assert np.array_equal(velocity(engine, models, STREAMED), velocity(engine, models, {}))


@pytest.fixture
def handler() -> Iterator[Callable[[Any], None]]:
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda function: signal.signal(signal.SIGUSR1, function)
    signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_does_not_raise_lets_the_call_go_on(
    engine: core.Engine, models: Models, handler: Callable[[Any], None]
) -> None:
    seen: list[int] = []
    handler(lambda number, frame: seen.append(number))
    timer = interrupt_soon(signal.SIGUSR1)
    outcome = slow_step(engine, models)
    timer.join()
    assert seen == [signal.SIGUSR1]
    assert np.array_equal(outcome, velocity(engine, models, {}))


def test_the_exception_of_a_handler_is_the_one_raised(
    engine: core.Engine, models: Models, handler: Callable[[Any], None]
) -> None:
    def use_the_engine(number: int, frame: Any) -> None:
        engine.held()

    handler(use_the_engine)
    timer = interrupt_soon(signal.SIGUSR1)
    with pytest.raises(BusyError):
        slow_step(engine, models)
    timer.join()
    assert velocity(engine, models, {}).shape == (2, 16, 1, 4, 6)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own that finds the package where this one did."""
    path = os.pathsep.join([str(Path(core.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path})


def test_the_interpreter_can_exit_while_a_daemon_thread_runs_a_step() -> None:
    done = run_python(
        """
        import json, pathlib, threading, time
        import numpy as np
        import wanoffload._core as core
        folder = pathlib.Path(core.__file__).parent / "demo_model/transformer"
        engine = core.Engine()
        model = core.Transformer(core.Store(folder), json.loads((folder / "config.json").read_text()), "float32")
        plan = model.plan(engine, 1, 4, 4, [(4, 4)], {"level": "leaf", "tier": "disk"})
        execution = core.Exec(engine, model, plan)
        execution.prepare([(4, np.ones((4, 64), np.float32))], 1, 4, 4, follow=False)
        core._testing.delay_reads(0.1)
        step = lambda: execution.step(np.ones((1, 16, 1, 4, 4), np.float32), np.float32([1]))
        threading.Thread(target=step, daemon=True).start()
        time.sleep(0.2)
        print("leaving")
        """
    )
    assert (done.returncode, done.stdout) == (0, "leaving\n"), done.stderr
    assert "Fatal" not in done.stderr


def test_a_subinterpreter_is_refused_cleanly() -> None:
    done = run_python(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import wanoffload._core
        code = "try:\\n    import wanoffload._core\\nexcept ImportError:\\n    print('refused', flush=True)"
        interpreters.run_string(interpreters.create(), code)
        """
    )
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_a_forked_child_gets_an_error_and_no_deadlock() -> None:
    done = run_python(
        """
        import os, pathlib, json
        import wanoffload._core as core
        folder = pathlib.Path(core.__file__).parent / "demo_model/vae"
        engine = core.Engine()
        model = core.VaeDecoder(core.Store(folder), json.loads((folder / "config.json").read_text()), "float32")
        execution = core.Exec(engine, model, model.plan(engine, 2, 2, {"level": "block", "tier": "disk"}))
        if (child := os.fork()) == 0:
            for call in [engine.held, core.Engine, execution.close, lambda: core.set_num_threads(1)]:
                try:
                    call()
                except RuntimeError as error:
                    print("fork" in str(error), flush=True)
            del execution, engine, model, call
            print("gone", flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(execution.close()["passes"])
        """
    )
    assert (done.returncode, done.stdout.split()) == (0, ["True"] * 4 + ["gone", "0"]), done.stderr


def test_a_forked_child_may_make_the_first_engine() -> None:
    done = run_python(
        """
        import os
        import wanoffload._core as core
        core.Engine().held()
        if (child := os.fork()) == 0:
            print(core.Engine().held()["arena_bytes"], flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_importing_the_core_starts_no_threads() -> None:
    done = run_python(
        """
        import os
        import numpy
        before = len(os.listdir("/proc/self/task"))
        import wanoffload._core
        print(len(os.listdir("/proc/self/task")) - before)
        """
    )
    assert done.stdout == "0\n", done.stderr


def test_waiting_leaves_python_to_other_threads(engine: core.Engine, models: Models) -> None:
    """Other threads run Python while a step computes."""
    with Slow(engine, models) as slow:
        turns = 0
        while slow.thread.is_alive() and turns < 1000:
            turns += 1
            os.sched_yield()
        assert turns == 1000
