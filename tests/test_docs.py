"""README and the pages of docs/ name only what exists; `./run.sh docs` checks the links between pages."""

import importlib.util
import re
from pathlib import Path

from configs import common

ROOT = Path(__file__).parent.parent
TEXTS = {
    path.relative_to(ROOT): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    if path.name != "CHANGELOG.md"  # it also names what was
}


def _missing(pattern: str, exists) -> list[str]:
    found = ((path, name) for path, text in TEXTS.items() for name in re.findall(pattern, text))
    return [f"{path}: {name}" for path, name in found if not exists(name)]


def test_links_of_readme_lead_somewhere():
    links = re.findall(r"(?:\]\(|src=\")(?!http)([^)#\"]+)", TEXTS[Path("README.md")])
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_and_files_exist():
    assert not _missing(r"python -m (experiments\.\w+)", importlib.util.find_spec)
    assert not _missing(r"\b((?:configs|experiments/sweeps)/[a-z]\w+\.py)", lambda name: (ROOT / name).exists())


def test_config_keys_exist():
    config = common.get_config()

    def exists(key):
        section, _, name = key.rpartition(".")
        return section == "model" or name in (config[section] if section else config)  # networks have options

    assert not _missing(r"--(?:no)?config\.([a-z_]+(?:\.[a-z_]+)?)", exists)
