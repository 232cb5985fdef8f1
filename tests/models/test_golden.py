"""The figures of every layer of every network: computed from the traced network, and compared with golden.json.

After an intended change write the file again: `python -m tests.models.test_golden`. Read its difference.
"""

import json
import pathlib

import inception_jax
from inception_jax import models
from inception_jax.models import trace
from inception_jax.models.summary import check_with_xla

NAMES = inception_jax.list_models()


def figures(layer: trace.Layer) -> dict:
    """Figures of one layer for one image of the paper's size."""
    return {
        "output": "x".join(map(str, layer.output)),
        "parameters": layer.parameters,
        "weights": layer.weights,
        "multiply_adds": layer.multiply_adds,
        "field": "x".join(map(str, layer.field.size)),
        "stride": "x".join(map(str, layer.field.stride)),
    }


def figures_of(layers) -> dict[str, dict]:
    return {layer.name: figures(layer) for layer in layers}


def test_figures_of_all_networks_are_golden(golden, summary_of):
    assert sorted(golden) == NAMES
    for name in NAMES:
        found = figures_of(summary_of(name).layers), figures_of(summary_of(name).aux_heads)
        expected = golden[name]["layers"], golden[name]["heads"]
        for ours, theirs in zip(found, expected, strict=True):
            assert list(ours) == list(theirs), name
            for layer, values in ours.items():
                assert values == theirs[layer], f"{name}, {layer}"


def test_xlas_cost_analysis_counts_each_convolution_as_we_do():
    """Products on padding left out, for every kind of kernel, stride, padding and grouping."""
    rows = []
    for name in ("alexnet", "zfnet", "nin_imagenet", "googlenet", "bn_inception", "inception_v2", "inception_v4",
                 "inception_resnet_v2", "resnet50"):  # fmt: skip
        options = {"blocks": 1} if "blocks" in models.options_of(name) else {}
        model = inception_jax.create_model(name, **options)
        main, _ = trace.layers(model, model.input_shape)
        rows += [row for layer in main for row in layer.operations if row.convolution]
    assert len({row.convolution for row in rows}) > 150
    check_with_xla(rows)


def test_the_field_through_an_adaptive_pool_that_changes_the_grid():
    """alexnet_tv's fc6 sees the whole grid of pool5: 195 pixels and 32 more for each further cell."""
    model = inception_jax.create_model("alexnet_tv")
    for size, field in ((224, 355), (448, 579), (63, 195)):
        layers = {layer.name: layer for layer in trace.layers(model, (size, size, 3))[0]}
        assert layers["fc6"].field.size == (field, field), size
        pool = layers["avgpool"]
        assert (pool.activations, pool.operations[0].kind) == (6 * 6 * 256, "adaptive average"), size


def write() -> None:
    """Writes golden.json, a line for each layer."""
    networks = []
    for name in NAMES:
        model = inception_jax.create_model(name)
        groups = []
        for key, layers in zip(("layers", "heads"), trace.layers(model, model.input_shape), strict=True):
            lines = ",\n".join(f"      {json.dumps(k)}: {json.dumps(v)}" for k, v in figures_of(layers).items())
            groups.append(f'    "{key}": {{\n{lines}\n    }}' if lines else f'    "{key}": {{}}')
        networks.append(f"  {json.dumps(name)}: {{\n" + ",\n".join(groups) + "\n  }")
    text = "{\n" + ",\n".join(networks) + "\n}\n"
    pathlib.Path(__file__).with_name("golden.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
