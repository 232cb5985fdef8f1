import os

import pytest

from inception_jax import runtime


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setattr(runtime, "_known", lambda flag: True)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return monkeypatch


def test_flags_are_appended(environment):
    environment.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    runtime.set_xla_flags("float32")
    assert os.environ["XLA_FLAGS"] == (
        "--xla_force_host_platform_device_count=4 --xla_cpu_experimental_ynn_fusion_type=dot,reduce"
    )


def test_what_the_user_set_stays(environment):
    environment.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=none")
    runtime.set_xla_flags("float32")
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_experimental_ynn_fusion_type=none"


def test_bfloat16_has_none(environment):
    runtime.set_xla_flags("bfloat16")
    assert os.environ["XLA_FLAGS"] == ""


def test_an_unknown_flag_is_left_out(environment):
    environment.undo()
    environment.setenv("XLA_FLAGS", "")
    environment.setattr(runtime, "_known", lambda flag: False)
    runtime.set_xla_flags("float32")
    assert os.environ["XLA_FLAGS"] == ""


def test_flags_are_looked_up_in_jaxlib():
    assert runtime._known("xla_force_host_platform_device_count")
    assert not runtime._known("xla_cpu_no_such_flag")
