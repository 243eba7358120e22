import io
import os
import signal
import sys
import threading
import time

import pytest
import tensorflow as tf

from ddr_tf.training.devices import Devices
from ddr_tf.training.signals import SIGNALS, Stop


@pytest.fixture
def devices():
    return Devices(tf.distribute.MirroredStrategy(["CPU:0"]))


def _send(number):
    """Sends this process a signal, and waits until Python has called its handler, which another thread may receive."""
    handled = signal.getsignal(number)
    calls = []
    signal.signal(number, lambda *arguments: (calls.append(number), handled(*arguments)))
    os.kill(os.getpid(), number)
    deadline = time.monotonic() + 10
    while not calls and time.monotonic() < deadline:
        time.sleep(0.01)
    signal.signal(number, handled)
    assert calls


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_the_run_to_stop(devices, number, capsys):
    outside = signal.signal(number, signal.default_int_handler)  # what runs the tests may ignore it
    try:
        with Stop(devices) as stop:
            assert not stop.requested
            _send(number)
            assert stop.requested
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, outside)
    assert "the same signal again stops at once" in capsys.readouterr().err


def test_a_run_stops_though_nobody_reads_what_it_says(devices, monkeypatch):
    class Gone(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    with Stop(devices) as stop:
        _send(signal.SIGTERM)
        assert stop.requested


def test_what_nohup_ignores_stays_ignored(devices):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop(devices) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_signal_ends_the_process(devices, monkeypatch):
    statuses = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    with Stop(devices):
        _send(signal.SIGTERM)
        _send(signal.SIGTERM)
    assert statuses == [128 + signal.SIGTERM]


def test_other_threads_take_no_signals(devices):
    handlers = []

    def enter():
        with Stop(devices):
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]
