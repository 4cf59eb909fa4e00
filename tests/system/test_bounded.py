"""A child that works on a stranger's files is ended when it takes too long, however it hangs; nothing else is."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from robustness_gate.errors import BrokenTrial, CheckpointError, NotApplicable
from robustness_gate.report.advice import trials
from robustness_gate.system import bounded
from robustness_gate.system.bounded import Gone, Limits, Panic, Phase, phase
from robustness_gate.system.durations import seconds

PATIENCE = 20.0
"""Seconds, on a busy machine, for what takes one or two."""


@pytest.mark.parametrize(
    ("text", "length"),
    [("90", 90), ("1.5", 1.5), ("90s", 90), ("10m", 600), ("2h", 7200), ("none", math.inf), ("None", math.inf)],
)
def test_a_length_of_time_is_written_in_seconds_minutes_or_hours(text, length):
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["", "0", "-1", "1d", "ten", "nan", "inf", "1e9", "0.0s", "10 m", "9" * 30])
def test_anything_else_is_no_length_of_time(text):
    with pytest.raises(ValueError, match="write seconds"):
        seconds(text)


def test_the_limit_to_load_grows_with_the_weights_unless_one_is_given():
    assert Limits().to_load(14_000_000_000) == 600 + 1400
    assert Limits(loading=30.0).to_load(14_000_000_000) == 30
    assert Limits(loading=math.inf).to_load(1) == math.inf


# --- what a child may do ----------------------------------------------------------------------------------------------


def counts(tell, up_to):
    for each in range(up_to):
        tell(each)


def refuses(_tell):
    raise CheckpointError("it is no model", remedy="Take another.", where="here")


def errs(_tell):
    raise KeyError("ours")


def sleeps(tell, which, length):
    tell(os.getpid())
    with phase(which) if which else contextlib.nullcontext():
        time.sleep(length)
    tell("awake")


def holds_the_interpreter(tell, which):
    tell(os.getpid())
    with phase(which) if which else contextlib.nullcontext():
        ctypes.PyDLL(None).sleep(60)


def many_short_ones(tell):
    for _ in range(40):
        with phase(Phase.LOADING), phase(Phase.ENCODING):
            time.sleep(0.03)
        with phase(Phase.ENCODING), phase(Phase.ENCODING):
            pass
    with phase(Phase.RENDERING):
        pass
    time.sleep(0.9)
    tell("done")


def stops_itself(tell):
    tell(os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)


def has_a_child(tell):
    tell(subprocess.Popen(["sleep", "60"]).pid)
    with phase(Phase.RENDERING):
        time.sleep(60)


def dies(_tell):
    with phase(Phase.ENCODING):
        os._exit(7)


def takes_a_lot(tell):
    try:
        with phase(Phase.RENDERING):
            "a" * (bounded.ROOM + (1 << 30))
    except Panic as panic:
        tell(panic.message)
    tell(len("a" * (1 << 20)))


def told(work, *arguments, **limits) -> tuple[list[Any], str]:
    """What it tells, and why it ended before its end."""
    found: list[Any] = []
    try:
        found.extend(bounded.stream(work, *arguments, limits=Limits(**limits), name="child"))  # keeps what came before
    except Gone as gone:
        return found, gone.message
    return found, ""


def gone(pid: int) -> bool:
    """Within some seconds: a zombie that no one reaps is gone, too."""
    for _ in range(int(PATIENCE * 20)):
        try:
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_values_come_as_given_and_errors_as_raised():
    assert told(counts, 5) == ([0, 1, 2, 3, 4], "")
    assert bounded.call(math.sqrt, 9.0, limits=Limits(), name="child") == 3
    with pytest.raises(CheckpointError) as caught:
        told(refuses)
    assert str(caught.value) == "here: it is no model. Take another."
    with pytest.raises(RuntimeError, match="KeyError"):
        told(errs)


@pytest.mark.parametrize(
    ("work", "which", "limits", "why"),
    [
        (sleeps, Phase.LOADING, {"loading": 0.4}, "it took longer than 0.4 s to load (limit --load-timeout)"),
        (sleeps, Phase.ENCODING, {"text": 0.4},
         "the tokenizer took longer than 0.4 s over a text (limit --text-timeout)"),
        (sleeps, Phase.RENDERING, {"text": 0.4},
         "the chat template took longer than 0.4 s over a prompt (limit --text-timeout)"),
        (sleeps, None, {"trial": 0.4}, "it took longer than 0.4 s (limit --trial-timeout)"),
        (holds_the_interpreter, Phase.ENCODING, {"text": 0.4}, "the tokenizer took longer than"),
        (holds_the_interpreter, None, {"silence": 1.5}, "the child gave no sign of life for 1.5 s"),
        (stops_itself, None, {"silence": 1.5}, "the child gave no sign of life for 1.5 s"),
    ],
)  # fmt: skip
def test_a_child_that_hangs_is_ended_however_it_hangs(work, which, limits, why):
    start = time.monotonic()
    arguments = {sleeps: (which, 60), holds_the_interpreter: (which,), stops_itself: ()}[work]
    found, reason = told(work, *arguments, **limits)
    assert why in reason
    assert time.monotonic() - start < PATIENCE
    assert gone(*found)


def test_its_own_children_end_with_it():
    (pid,), reason = told(has_a_child, text=0.4)
    assert "--text-timeout" in reason
    assert gone(pid)


def test_many_short_phases_are_not_one_long_one_and_loading_is_no_part_of_a_trial():
    assert told(many_short_ones, text=0.5, loading=0.5) == (["done"], "")
    (_, last), reason = told(sleeps, Phase.LOADING, 1.5, trial=0.6)
    assert (last, reason) == ("awake", "")


def test_time_in_which_the_parent_did_not_run_counts_against_no_one(monkeypatch):
    jumps = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(bounded.time, "monotonic", lambda: float(next(jumps)))
    assert told(sleeps, Phase.ENCODING, 0.6, text=30.0, silence=30.0)[0][1:] == ["awake"]


def test_a_child_that_dies_says_how_and_at_what():
    assert told(dies) == ([], "the child died (exit code 7) in the tokenizer")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_one_text_may_not_take_all_the_memory():
    assert told(takes_a_lot) == (["the chat template ran out of memory", 1 << 20], "")


def test_what_a_library_prints_while_it_panics_hides_nothing(capfd, monkeypatch):
    counts = [0] * len(Phase)
    monkeypatch.setattr(bounded, "_BEATS", counts)  # as in a child
    with phase(Phase.ENCODING):
        os.write(2, b"thread panicked at\n" * 5)
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
    assert counts == [0, 0, 2, 0]


class NoException(BaseException):
    """What pyo3 raises where a library in Rust panics."""


def test_a_panic_becomes_an_error_and_what_ends_a_process_stays_what_it_is():
    with pytest.raises(Panic) as caught, phase(Phase.ENCODING):
        raise NoException("index out of bounds\nstack backtrace")
    assert caught.value.message == "the tokenizer broke down: index out of bounds"
    assert not isinstance(caught.value, BrokenTrial | NotApplicable), "an attack may go on after those"
    with pytest.raises(Panic, match="the loader ran out of memory"), phase(Phase.LOADING):
        raise MemoryError
    for each in (KeyboardInterrupt, SystemExit, GeneratorExit, ZeroDivisionError):
        with pytest.raises(each), phase(Phase.RENDERING):
            raise each


PARENT = """
import sys, test_bounded
from robustness_gate.system import bounded
from robustness_gate.report.advice import trials
for pid in bounded.stream(test_bounded.{work}, {arguments}, limits=bounded.Limits(), name="child"):
    print(pid, flush=True)
"""


@pytest.mark.parametrize(("work", "arguments"), [("sleeps", "None, 60"), ("holds_the_interpreter", "None")])
def test_a_child_does_not_outlive_a_parent_that_was_killed(work, arguments, root):
    path = os.pathsep.join([str(Path(__file__).parent), str(root)])
    code = PARENT.format(work=work, arguments=arguments)
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert parent.stdout is not None
    with parent.stdout as said:
        pid = int(said.readline())
        time.sleep(0.5)  # so that it is at it
        parent.kill()
        parent.wait()
    assert gone(pid)


SHADOWS = ("json", "pickle", "logging", "socket", "typing", "robustness_gate")
"""Modules of which a stranger's folder may hold one of the same name."""
CALLS = """
import operator
from robustness_gate.system import bounded
if __name__ == "__main__":
    print(bounded.call(operator.add, 1, 2, limits=bounded.Limits(), name="child"))
"""


@pytest.mark.parametrize("way", ["a script of its own", "-m"])
def test_no_module_is_taken_from_the_working_directory(way, root, tmp_path):
    script, folder = tmp_path / "calls.py", tmp_path / "of a stranger"
    script.write_text(CALLS, encoding="utf-8")
    folder.mkdir()
    for name in SHADOWS:
        (folder / f"{name}.py").write_text("import os; os.write(1, b'SHADOW')", encoding="utf-8")
    command = [str(script)]
    if way == "-m":
        (folder / "robustness_gate.py").unlink()  # by itself `-m` looks for its own module there first
        command = ["-m", "robustness_gate", "policy", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, bool(done.stdout.strip())) == (0, True), done.stderr
    assert "SHADOW" not in done.stdout


def is_killed(_tell):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "arguments", "limits", "code"),
    [
        (sleeps, (Phase.ENCODING, 60), {"text": 0.2}, "limit"),
        (sleeps, (None, 60), {"trial": 0.2}, "limit"),
        (is_killed, (), {}, "memory"),
        (dies, (), {}, ""),
    ],
)
def test_what_a_child_ended_of_has_a_code_and_the_code_its_remedy(work, arguments, limits, code):
    with pytest.raises(Gone) as caught:
        list(bounded.stream(work, *arguments, limits=Limits(**limits), name="child"))
    assert caught.value.code == code
    assert trials.REMEDIES[code].startswith("Raise the limit that it names") == (code == "limit")
