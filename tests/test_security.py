"""What no module may call, because it would run what a file says, or write where a file says."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [
    ROOT / "main.py",
    *(f for room in ("inception_jax", "experiments", "configs") for f in (ROOT / room).rglob("*.py")),
]
FORBIDDEN = {
    *("eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "torch.load", "joblib.load"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "shutil.unpack_archive", "csv.writer", "csv.DictWriter"),
}
ALLOWED = {
    "inception_jax/spreadsheet.py": {"csv.writer"},  # the one place, which neutralises formulas
}


def calls(code):
    """Returns the problems of a module, as 'LINE: NAME'."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in FORBIDDEN or name.endswith((".extractall", ".extract")):
            yield name
        # NumPy's default is False since 1.16.3.
        for argument in ("allow_pickle", "shell"):
            if given.get(argument, "False") != "False":
                yield f"{name} with {argument}={given[argument]}"


@pytest.mark.parametrize(
    "code", ["eval('1')", "np.load(file, allow_pickle=x)", "archive.extractall()", "subprocess.run(x, shell=True)"]
)
def test_the_check_finds_them(code):
    assert list(calls(code))


def test_no_data_is_run_and_no_archive_is_unpacked_by_its_own_names():
    assert len(FILES) > 100
    found = {file.relative_to(ROOT).as_posix(): set(calls(file.read_text(encoding="utf-8"))) for file in FILES}
    assert {
        file: names - ALLOWED.get(file, set()) for file, names in found.items() if names - ALLOWED.get(file, set())
    } == {}
