"""The figures of all networks, which are traced once here: beside golden.json, and beside what the papers print.

golden.json holds those of every layer. After an intended change write it again: `python -m tests.models.test_golden`.
Read its difference.
"""

import json
import pathlib

import inception_jax
from inception_jax import models
from inception_jax.models import trace
from inception_jax.models.summary import check_with_xla
from inception_jax.report.fidelity import fidelity_page

ROOT = pathlib.Path(__file__).parent.parent.parent
NAMES = inception_jax.list_models()

# Some known differences of these networks, as layers or printed texts; '' if they have none.
DIFFERENT = {
    "googlenet": "conv1 4a 4b 4c 4d 4e 5a 5b",
    "bn_inception": "3c 4c 4d 4e 13.6M",
    "inception_resnet_v2": "block35_10 block17_20 block8_10",
    "vgg_d": "96MB",
    "base_cnn_c": "1.3",
    "strided_cnn_c": "1.3",
    "alexnet": "253,440",
    "all_cnn_c": "",
    "vgg_e": "",
}


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


def test_docs_fidelity_is_fresh(summary_of):
    page = fidelity_page(map(summary_of, NAMES))
    assert (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8") == page, (
        "run: python -m experiments.summary --fidelity > docs/fidelity.md"
    )


def test_what_differs_has_a_reason_and_what_agrees_has_none(summary_of):
    for name in NAMES:
        for entry in summary_of(name).comparisons:
            assert bool(entry.printed.reason) != entry.agrees, (name, entry)


def test_known_differences(summary_of):
    for name, parts in DIFFERENT.items():
        different = [entry.printed for entry in summary_of(name).comparisons if not entry.agrees]
        assert bool(different) == bool(parts), name
        for part in parts.split():
            named = [entry for entry in different if part in (entry.layer, *entry.text.split())]
            assert named or any(entry.layer.endswith(f"_{part}") for entry in different), (name, part)


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
