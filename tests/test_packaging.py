"""The wheel's hard dependencies suffice for what `import inception_jax` offers."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Modules of the extras in pyproject.toml; scipy and array_record come with hard dependencies too.
EXTRAS = ["clu", "matplotlib", "ml_collections", "plotly", "sklearn", "submitit"]
EXTRAS += ["tensorboard", "tensorflow", "tensorflow_datasets", "torch", "tqdm"]


def test_public_names_need_no_extra():
    program = f"""
import sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import inception_jax
print(*(getattr(inception_jax, name).__name__ for name in inception_jax.__all__))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"create_model", "load"} <= set(done.stdout.split())


def test_hard_dependencies_are_few():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(project["dependencies"]) <= 12
    assert not any("tensorflow" in requirement for requirement in project["dependencies"])
