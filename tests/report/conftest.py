"""Reads pages as trees."""

import base64
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

_VOID = {"meta", "link", "img", "br"}


class _Reader(HTMLParser):
    """Builds an ElementTree; fails unless all tags are closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self._builder, self._open = ElementTree.TreeBuilder(), []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"
        self.tree = self._builder.close()

    def handle_starttag(self, tag, attributes):
        self._builder.start(tag, dict(attributes))
        if tag in _VOID:
            self._builder.end(tag)
        else:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self._builder.start(tag, dict(attributes))
        self._builder.end(tag)

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> closes nothing"
        assert tag == self._open.pop()
        self._builder.end(tag)

    def handle_data(self, data):
        if self._open:
            self._builder.data(data)


@pytest.fixture
def parse():
    """Turns a page, or a section of one, into an ElementTree."""
    return lambda text: _Reader(text).tree


@pytest.fixture
def decode():
    """Turns an <img> into its pixels."""

    def decode(image) -> np.ndarray:
        kind, data = re.fullmatch("data:image/(png|jpeg);base64,(.*)", image.get("src")).groups()
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.format.lower() == kind
        return np.asarray(picture)

    return decode
