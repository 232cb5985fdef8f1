"""What MkDocs builds from the code: the API page of each room, the table of configuration keys, the renamed keys."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

_PACKAGE = Path(__file__).parent.parent / "inception_jax"


def on_files(files, config):
    """Adds api/ROOM.md for each directory of the package, and api/others.md for the modules beside them."""
    for room in (path.parent.name for path in _PACKAGE.glob("*/__init__.py")):
        files.append(File.generated(config, f"api/{room}.md", content=f"# {room}\n\n::: inception_jax.{room}\n"))
    modules = sorted(path.stem for path in _PACKAGE.glob("[!_]*.py"))
    content = "\n".join([f"# {', '.join(modules)}\n", *(f"::: inception_jax.{module}" for module in modules)])
    files.append(File.generated(config, "api/others.md", content=content))
    return files


def on_page_markdown(markdown: str, page, **_) -> str:
    """Puts the tables into the pages that ask for them."""
    if page.file.src_uri == "configuration.md":
        return markdown.replace("<!-- configuration keys -->", "\n".join(_configuration_keys()))
    if page.file.src_uri == "workdir.md":
        return markdown.replace("<!-- renamed keys -->", "\n".join(_renamed_keys()))
    return markdown


def _configuration_keys() -> Iterator[str]:
    from configs.common import KEYS

    sections = {"General": {name: key for name, key in KEYS.items() if not isinstance(key, Mapping)}}
    sections |= {name: key for name, key in KEYS.items() if isinstance(key, Mapping)}
    for title, keys in sections.items():
        prefix = "" if title == "General" else f"{title}."
        yield from (f"\n## {title}\n", "| key | default | meaning | valid values |", "| --- | --- | --- | --- |")
        for name, key in keys.items():
            yield f"| `{prefix}{name}` | {_shown(key.default)} | {_cell(key.meaning)} | {_cell(key.valid)} |"


def _shown(value: Any) -> str:
    value = value.to_dict() if hasattr(value, "to_dict") else value
    return f"`{_cell(repr(value))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _renamed_keys() -> Iterator[str]:
    from inception_jax.runs.renamed import CONFIG_KEYS

    yield from ("| in version 0.1 | now |", "| --- | --- |")
    for old, new in CONFIG_KEYS.items():
        yield f"| `{old}` | `{new}` |"
