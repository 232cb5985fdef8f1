"""The page: what stands where, and what happens on which event. `explorer` computes what it shows."""

import base64
import html
import io
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from experiments.demo.explorer import Explorer
from inception_jax.data.decoding import DamagedImage
from inception_jax.errors import UserError
from inception_jax.explain import Unit
from inception_jax.names import printable

CSS = """
.gradio-container { max-width: 1200px !important; }
.wrong { color: #b91c1c; font-weight: 600; }
.dark .wrong { color: #fca5a5; }
.pixels img { image-rendering: pixelated; }
"""
_DRAWING = Path(__file__).with_name("canvas.js").read_text(encoding="utf-8")
_PREFIX = "data:image/png;base64,"
_HINT = "Click a channel to explain its strongest unit."


def build(explorer: Explorer) -> gr.Blocks:
    """Returns the page of a network."""
    title = f"What {explorer.classifier.name} sees"
    fitted = " A drawing is fitted to the frame as the digits of the training set are." if explorer.form else ""
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(f"# {title}\nOpen an image or draw one, then paint over it and watch the score.{fitted}")
        crop = gr.State()
        before = gr.State()
        unit = gr.State()
        with gr.Row():
            with gr.Column():
                file = gr.File(label="Image file", height=150)
                sketch = _canvas("Or draw here", "black", 7)
            with gr.Column():
                canvas = _canvas("What the network gets. Paint over it", explorer.grey, 12)
                wrong = gr.HTML(elem_classes="wrong", elem_id="wrong")
            with gr.Column():
                classes = gr.Label(label="Classes", num_top_classes=5, elem_id="classes")
                painted = gr.HTML(elem_id="painted")
        with gr.Row():
            with gr.Column():
                names = [("the most probable", -1), *((name, index) for index, name in enumerate(explorer.classes))]
                index = gr.Dropdown(names, value=-1, label="Explain the class")
                method = gr.Dropdown(list(explorer.methods), value=explorer.methods[0], label="by the method")
                layer = gr.Dropdown(
                    list(explorer.grids),
                    value=explorer.layer or None,
                    label="at the layer",
                    visible=explorer.has_layer(explorer.methods[0]),
                )
                explanation = gr.HTML(elem_id="explanation")
                picture = _picture("Explanation", "picture")
            with gr.Column():
                end_points = list(explorer.classifier.end_points)
                watched = gr.Dropdown(end_points, value=end_points[0], label="Channels of the layer")
                line = gr.HTML(_HINT)
                channels = _picture("Channels", "channels")

        def click(name: str, at: gr.SelectData) -> Unit | None:  # Gradio looks at the annotation
            return explorer.unit_at(name, *at.index)

        # One computation at a time. The functions are for this page alone: none has a name in an API.
        queued: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}
        latest = queued | {"trigger_mode": "always_last", "show_progress": "hidden"}
        new = [wrong, crop, before, canvas, classes, painted, unit]
        explain = {
            "fn": lambda *values: _explain(explorer, *values),
            "inputs": [crop, method, layer, index, unit],
            "outputs": [picture, explanation],
        } | queued
        watch = {
            "fn": lambda *values: _watch(explorer, *values),
            "inputs": [crop, watched],
            "outputs": [channels, line],
        } | queued
        for image, event, function in ((file, file.change, _open), (sketch, sketch.input, _draw)):
            shown = event(lambda value, function=function: function(explorer, value), image, new, **latest)
            shown.then(**explain)
            shown.then(**watch)
        canvas.input(lambda *values: _paint(explorer, *values), [before, canvas], [classes, painted], **latest)
        method.input(lambda name: gr.update(visible=explorer.has_layer(name)), method, layer, **queued)
        gr.on([method.input, layer.input], **explain)
        index.input(lambda: None, None, unit, **queued).then(**explain)
        watched.input(**watch)
        channels.select(click, watched, unit, **queued).then(**explain)
    return page


def _open(explorer: Explorer, path: str | None) -> tuple:
    if not path:
        return _image(explorer, None)
    return _checked(explorer, lambda: explorer.read(path, printable(Path(path).name)))


def _draw(explorer: Explorer, value: str | None) -> tuple:
    return _checked(explorer, lambda: explorer.draw(_pixels(explorer, value)))


def _checked(explorer: Explorer, read) -> tuple:
    try:
        return _image(explorer, read())
    except (UserError, DamagedImage) as error:
        return html.escape(str(error)), *_image(explorer, None)[1:]


def _image(explorer: Explorer, crop: np.ndarray | None) -> tuple:
    """Values of the components `new`, for an image or for none."""
    if crop is None:
        return "", None, None, None, None, "", None
    probabilities = explorer.probabilities(crop)
    return "", crop, probabilities, _url(explorer.enlarged(crop)), explorer.top(probabilities), "", None


def _paint(explorer: Explorer, before: np.ndarray | None, value: str | None) -> tuple:
    if before is None:
        return None, ""
    after = explorer.probabilities(explorer.shrunk(_pixels(explorer, value)))
    return explorer.top(after), html.escape(explorer.change(before, after))


def _explain(
    explorer: Explorer, crop: np.ndarray | None, method: str, layer: str, index: int, unit: Unit | None
) -> tuple[np.ndarray | None, str]:
    if crop is None:
        return None, ""
    try:
        shown, text = explorer.explain(crop, method, layer, None if index < 0 else index, unit)
    except UserError as error:
        return None, html.escape(str(error))
    return shown, html.escape(text)


def _watch(explorer: Explorer, crop: np.ndarray | None, layer: str) -> tuple[np.ndarray | None, str]:
    if crop is None:
        return None, _HINT
    shown, text = explorer.channels(crop, layer)
    return shown, html.escape(f"{text}. {_HINT}")


def _canvas(label: str, colour: str, percent: int) -> gr.HTML:
    """A canvas to draw on with a pen of some colour, whose width is a percentage of the canvas's."""
    return gr.HTML(
        html_template=f"""
          <div class="label">{label}</div>
          <canvas width="384" height="384" aria-label="{label}"></canvas>
          <div class="tools">
            <label>pen <input type="range" min="2" max="40" value="{percent}"></label>
            <button type="button">Clear</button>
          </div>""",
        css_template="""
          .label { font-size: var(--text-sm); color: var(--body-text-color-subdued); padding-bottom: 4px; }
          canvas { width: 100%; max-width: 384px; aspect-ratio: 1; border: 1px solid var(--border-color-primary);
                   image-rendering: pixelated; touch-action: none; cursor: crosshair; display: block; }
          .tools { display: flex; justify-content: space-between; max-width: 384px; padding-top: 4px; }
          .tools label { display: flex; align-items: center; gap: 6px; }
          .tools button { font-size: var(--text-sm); font-weight: 400; padding: 2px 12px; border-radius: 4px;
                          border: 1px solid var(--border-color-primary); }
        """,
        js_on_load=_DRAWING,
        colour=colour,
    )


def _picture(label: str, name: str) -> gr.Image:
    return gr.Image(
        label=label,
        format="png",
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id=name,
        elem_classes="pixels",
    )


def _url(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return _PREFIX + base64.b64encode(file.getvalue()).decode()


def _pixels(explorer: Explorer, url: str | None) -> np.ndarray:
    """Returns the picture of a canvas, uint8 [H, W, 3].

    Raises:
      DamagedImage: it is none.
    """
    return explorer.decoded(base64.b64decode((url or "").removeprefix(_PREFIX)))
