import os
import pathlib
import re
import subprocess
import sys

import pytest

from inception_jax import runtime
from inception_jax.errors import UserError


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setattr(runtime, "_known", lambda flag: True)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return monkeypatch


def test_flags_are_appended(environment):
    environment.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    runtime.set_xla_flags("float32")
    assert os.environ["XLA_FLAGS"] == (
        "--xla_force_host_platform_device_count=4 --xla_cpu_enable_concurrency_optimized_scheduler=false "
        "--xla_cpu_experimental_ynn_fusion_type=individual_dot,reduce"
    )


def test_what_the_user_set_stays(environment):
    environment.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=none")
    runtime.set_xla_flags("float32")
    assert os.environ["XLA_FLAGS"] == (
        "--xla_cpu_experimental_ynn_fusion_type=none --xla_cpu_enable_concurrency_optimized_scheduler=false"
    )


def test_bfloat16_has_no_fusion(environment):
    runtime.set_xla_flags("bfloat16")
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_enable_concurrency_optimized_scheduler=false"


def test_an_unknown_flag_is_left_out(environment):
    environment.undo()
    environment.setenv("XLA_FLAGS", "")
    environment.setattr(runtime, "_known", lambda flag: False)
    runtime.set_xla_flags("float32")
    assert os.environ["XLA_FLAGS"] == ""


def test_flags_are_looked_up_in_jaxlib():
    assert runtime._known("xla_force_host_platform_device_count")
    assert not runtime._known("xla_cpu_no_such_flag")


def test_the_gpu_flags_of_the_documentation_are_jaxlibs():
    text = (pathlib.Path(__file__).parents[1] / "docs" / "performance.md").read_text(encoding="utf-8")
    flags = sorted(set(re.findall(r"--(xla_gpu_\w+)", text)))
    assert len(flags) > 5
    assert [flag for flag in flags if not runtime._known(flag)] == []


def run(code, **environment):
    """The output of a fresh process, with nothing of this one's JAX settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def test_the_cache_has_a_directory_for_each_kind_of_cpu(tmp_path):
    code = (
        "import jax; from inception_jax.runtime import configure; configure('float32'); "
        "print(jax.config.jax_compilation_cache_dir)"
    )
    directory = pathlib.Path(run(code, XDG_CACHE_HOME=str(tmp_path)))
    assert directory.parent == tmp_path / "inception_jax" / "xla"
    assert directory.name == runtime._cpu_kind()
    assert run(code, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine")) == str(tmp_path / "mine")


def test_a_cache_that_cannot_be_written_is_a_temporary_one(tmp_path):
    (tmp_path / "file").touch()
    code = (
        "from inception_jax import runtime; runtime.configure('float32'); first = runtime.cache_directory(); "
        "import jax, sys; assert jax.config.jax_compilation_cache_dir.startswith(str(first)); "
        "assert first == runtime.cache_directory() and first.stat().st_mode & 0o777 == 0o700; "
        "sys.stderr.flush(); print(first)"
    )
    directory = pathlib.Path(run(code, XDG_CACHE_HOME=str(tmp_path / "file"), TMPDIR=str(tmp_path)))
    assert directory.parent == tmp_path
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]  # removed at the end


def test_a_temporary_directory_is_said_once(tmp_path, monkeypatch, capsys):
    runtime._temporary.cache_clear()
    monkeypatch.setattr(runtime.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    paths = [
        tmp_path / "new" / "deep",
        tmp_path / "file" / "a",
        tmp_path / "file" / "a",
        pathlib.Path("~", "b"),
        tmp_path / "\udce9",
    ]
    kept, first, again, homeless, misread = (runtime.writable(path, "VARIABLE") for path in paths)
    assert kept == paths[0]
    assert kept.is_dir()
    assert first == again
    assert homeless.is_dir()
    assert misread.is_dir()
    assert capsys.readouterr().err == (
        f"warning: {tmp_path}/file/a cannot be used (Not a directory); a temporary directory is used instead; "
        "set VARIABLE\nwarning: ~/b cannot be used (there is no home directory); a temporary directory is used "
        f"instead; set VARIABLE\nwarning: {tmp_path}/\\xe9 cannot be used (its name or this locale is not UTF-8); a "
        "temporary directory is used instead; set VARIABLE\n"
    )


def test_without_any_directory_it_is_said_in_one_line(tmp_path, monkeypatch):
    def none_usable(**_):
        raise FileNotFoundError(2, "No usable temporary directory found")

    runtime._temporary.cache_clear()
    monkeypatch.setattr(runtime.tempfile, "mkdtemp", none_usable)
    with pytest.raises(UserError, match="set VARIABLE, or TMPDIR"):
        runtime.writable(pathlib.Path("~", "c"), "VARIABLE")


def test_a_second_start_compiles_nothing(tmp_path):
    code = (
        "from inception_jax.runtime import configure; configure('float32'); import jax; import jax.numpy as jnp; "
        "jax.jit(lambda x: jnp.linalg.qr(jnp.sin(x) @ x)[0].sum())(jnp.ones((64, 64))); "
        "from inception_jax import create_model; m = create_model('lenet5_modern'); x = jnp.ones((1, 32, 32, 1)); "
        "jax.jit(m.init)(jax.random.key(0), x)"
    )
    # All programs, else one that took longer the second time would be new.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    run(code, **cache)
    first = {path.name for path in tmp_path.iterdir() if path.name.endswith("-cache")}
    assert any(name.startswith("jit_init") for name in first)
    run(code, **cache)
    assert {path.name for path in tmp_path.iterdir() if path.name.endswith("-cache")} == first


def test_the_cpu_keeps_the_memory_of_a_step():
    """A later call of a function with 256 MiB of results takes no new pages from the system.

    One of them may: where something small was put into the free place, the results go elsewhere.
    """
    code = (
        "from inception_jax.runtime import configure; configure('float32')\n"
        "import jax, resource; import jax.numpy as jnp\n"
        "f = jax.jit(lambda x: jnp.broadcast_to(x[:, None], (2**13, 2**13)) * 2.0); x = jnp.ones(2**13)\n"
        "faults = [0]\n"
        "for _ in range(6):\n"
        "    f(x).block_until_ready()\n"
        "    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)\n"
        "print(min(after - before for before, after in zip(faults, faults[1:])))"
    )
    assert int(run(code)) < 1000  # the pages of 4 KiB would be 65,536


def test_training_keeps_no_gradient_for_later():
    """Of eight residual blocks; with the kernels' gradients computed last it takes a third more memory."""
    code = (
        "from inception_jax.runtime import configure; configure('float32')\n"
        "import jax, jax.numpy as jnp; from inception_jax import ops\n"
        "def temporary_bytes(convolve):\n"
        "    conv = lambda x, k: convolve(x, k, (1, 1), [(0, 0)] * 2, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))\n"
        "    def loss(kernels, x):\n"
        "        for first, second in kernels:\n"
        "            x = ops.relu(x + 0.1 * conv(ops.relu(conv(x, first)), second))\n"
        "        return jnp.sum(x**2)\n"
        "    kernels, x = [[jnp.zeros((1, 1, 64, 64))] * 2] * 8, jnp.zeros((8, 32, 32, 64))\n"
        "    compiled = jax.jit(jax.grad(loss)).lower(kernels, x).compile()\n"
        "    return compiled.memory_analysis().temp_size_in_bytes\n"
        "print(temporary_bytes(ops.convolve_in_training) / temporary_bytes(ops.convolve))"
    )
    assert float(run(code)) < 0.8


def test_the_library_sets_nothing_and_does_not_import_tensorflow():
    code = (
        "import inception_jax, jax, os, sys; inception_jax.create_model('googlenet'); "
        "print('tensorflow' in sys.modules, jax.config.jax_compilation_cache_dir, os.environ.get('XLA_FLAGS'))"
    )
    assert run(code) == "False None None"
