"""The wheel's hard dependencies suffice for what `import inception_jax` offers."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Modules of the extras in pyproject.toml; scipy and array_record come with hard dependencies too.
EXTRAS = ["clu", "gradio", "huggingface_hub", "matplotlib", "ml_collections", "plotly", "sklearn", "submitit"]
EXTRAS += ["tensorboard", "tensorflow", "tensorflow_datasets", "torch", "tqdm"]


MISSING = f"""
import sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Missing())
"""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def without_extras(program, returncode=0):
    """Runs a program in a process in which the packages of the extras are missing; returns what it prints."""
    done = subprocess.run([sys.executable, "-c", MISSING + program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == returncode, done.stderr
    return done.stdout + done.stderr


def test_public_names_need_no_extra():
    printed = without_extras("""
import inception_jax
print(*(getattr(inception_jax, name).__name__ for name in inception_jax.__all__))
""")
    assert {"create_model", "load"} <= set(printed.split())


def test_a_missing_package_is_named_with_its_extra():
    printed = without_extras("""
from pathlib import Path
from inception_jax import console, errors
from inception_jax.data import sources
from inception_jax.report import page
from inception_jax.report.sweep import page as sweep_page
from inception_jax.weights import hub

for use in (
    lambda: __import__("inception_jax.training"),
    console.bar,
    sources.known_names,
    lambda: sources.open_source("digits", "train"),
    lambda: page.drawing("", "", 1, print),
    lambda: sweep_page.write(Path(), {}),
    lambda: hub.fetch_from_hub("timm/net", "model.safetensors"),
):
    try:
        use()
    except errors.MissingExtraError as error:
        print(error)
""")
    lines = re.findall(r"(\w+) is not installed: pip install 'inception_jax\[(\w+)\]'\n", printed)
    assert [module for module, _ in lines] == [
        "clu",
        "tqdm",
        "tensorflow_datasets",
        "tensorflow_datasets",
        "matplotlib",
        "plotly",
        "huggingface_hub",
    ]
    for module, extra in lines:
        distributions = [re.match(r"[\w-]+", line)[0] for line in PROJECT["optional-dependencies"][extra]]
        assert module in [name.replace("-", "_") for name in distributions]


def test_a_command_without_its_packages_ends_in_one_line():
    printed = without_extras("import main", returncode=1)
    assert printed == "error: the commands need more packages: pip install -r requirements.txt\n"


def test_hard_dependencies_are_few():
    assert len(PROJECT["dependencies"]) <= 12
    assert not any("tensorflow" in requirement for requirement in PROJECT["dependencies"])
