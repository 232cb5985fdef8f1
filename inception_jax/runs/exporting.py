"""Exports a classifier: one function for all formats, and the upload to the Hugging Face hub."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from inception_jax.errors import UserError, check_choice
from inception_jax.runs.classifier import Classifier
from inception_jax.runs.run import Run
from inception_jax.weights.export import FORMATS, archive, onnx, peers, stablehlo


def export(
    classifier: Classifier,
    out: Path,
    form: str,
    *,
    end_points: Sequence[str] = (),
    probabilities: bool = False,
    fold: bool = True,
) -> int:
    """Writes a classifier in one of FORMATS, and config.json beside it.

    Args:
      classifier: the network, its weights and its preprocessing.
      out: file to write; for 'stablehlo' the folder.
      form: one of FORMATS. 'torchvision' and 'timm' are safetensors with the names of that package, 'keras' is .keras.
      end_points: 'onnx': layers whose outputs the graph gives too.
      probabilities: 'onnx', 'stablehlo': the softmax in place of the logits.
      fold: 'onnx': batch normalisation becomes part of the convolutions.

    Returns:
      The number of arrays of the weights.

    Raises:
      UserError: the network cannot be written in this format, or the file cannot be written.
    """
    check_choice("format", form, FORMATS)
    if (end_points and form != "onnx") or (probabilities and form not in ("onnx", "stablehlo")):
        raise UserError(f"format={form!r} holds weights alone, without end points and probabilities")
    weights = {part: classifier.variables[part] for part in ("params", "batch_stats")}
    count = len(jax.tree.leaves(weights))
    if form != "stablehlo":
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{out.parent} cannot be written: {error.strerror}") from None
    match form:
        case "npz":
            return classifier.save(out)
        case "safetensors":
            return archive.write(out, classifier.variables, classifier.metadata)
        case "onnx":
            _write(out, _onnx(classifier, end_points, probabilities, fold))
        case "stablehlo":
            _stablehlo(classifier, out, probabilities)
        case _:
            weight_map = peers.find(form, classifier.options)
            count = peers.write(out, form, weight_map, weights, len(classifier.class_names))
    if form != "stablehlo":
        archive.write_config(out, classifier.metadata)
    return count


def push(classifier: Classifier, folder: Path, repository: str) -> str:
    """Uploads a folder of exports with a model card of what was measured; returns the address.

    Raises:
      UserError: the upload failed, or huggingface_hub is missing.
    """
    from inception_jax.weights import hub  # its library is large and optional

    run = Run.read(classifier.workdir, metrics_bytes=0)
    evaluation = classifier.workdir / "evaluation.json"
    results = json.loads(evaluation.read_text(encoding="utf-8")) if evaluation.exists() else run.results or None
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    card = hub.model_card(classifier.metadata, results, repo=repository, files=names)
    return hub.push(folder, repository, card=card)


def _onnx(classifier: Classifier, end_points: Sequence[str], probabilities: bool, fold: bool) -> bytes:
    preprocessing = classifier.preprocessing
    if preprocessing.whitening != "none":
        raise UserError(f"whitening={preprocessing.whitening!r} is not exported to ONNX; take StableHLO")
    source = onnx.Input(classifier.crop_config.size, preprocessing.channels, preprocessing.mean, preprocessing.std)
    return onnx.to_onnx(
        classifier.model,
        classifier.variables,
        source,
        end_points=end_points,
        probabilities=probabilities,
        fold=fold,
        metadata={key: json.dumps(value) for key, value in classifier.metadata.items()},
    )


def _stablehlo(classifier: Classifier, folder: Path, probabilities: bool) -> None:
    def function(variables, images):
        inputs = classifier.preprocessing.evaluate(images, variables.get("dataset_stats", {}))
        logits = classifier.model.apply(variables, inputs)[0].astype(jnp.float32)
        return jax.nn.softmax(logits) if probabilities else logits

    size = classifier.crop_config.size
    stablehlo.write(folder, function, classifier.variables, (size, size, 3), classifier.metadata)


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
