import os
import signal

from inception_jax.training.interruption import Signals


def test_the_first_signal_is_noted_and_a_second_interrupt_stops_at_once(monkeypatch, capfd):
    exits = []
    monkeypatch.setattr(os, "_exit", exits.append)
    before = signal.getsignal(signal.SIGINT)
    with Signals() as signals:
        assert signals.received(1) == 0
        signal.raise_signal(signal.SIGTERM)
        assert signals.received(1) == signal.SIGTERM
        signal.raise_signal(signal.SIGINT)  # the first of its kind
        assert (signals.received(1), exits) == (signal.SIGINT, [])
        signal.raise_signal(signal.SIGINT)
        assert exits == [130]
    assert "stopped at once" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
