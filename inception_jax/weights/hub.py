"""Files of the Hugging Face hub, and model cards for files that are published there.

`huggingface_hub` does the work: its cache, its login and its environment variables hold (HF_HOME, HF_TOKEN,
HF_HUB_OFFLINE). HF_ENDPOINT names another hub. INCEPTION_JAX_OFFLINE=1 forbids requests here too.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from inception_jax import console, markdown
from inception_jax.errors import UserError, needs_extra
from inception_jax.reference.printed_results import printed_result
from inception_jax.weights.fetch import WAY_OUT, offline_variable, one_line

_HUB = "https://huggingface.co"
_CARD = "README.md"
_IMAGENET_CLASSES = 1000  # the papers print results for these only
# Keys of a classifier's preprocessing that its training alone uses.
_TRAINING = {"flip", "randaugment", "randaugment_magnitude", "photometric", "photometric_strength", "pca_noise"}
_TRAINING |= {"shift", "mixup", "cutmix", "area", "aspect", "crop", "scale", "max_pixels"}


def fetch_from_hub(repo: str, filename: str, revision: str | None = None) -> Path:
    """Returns the path of a file of a repository in the hub's own cache; it is fetched unless it is there.

    Args:
      repo: name of the repository, such as 'timm/inception_v3.tf_in1k'.
      filename: path of the file in the repository.
      revision: branch, tag or commit; None for the newest.

    Raises:
      UserError: the file cannot be had, or `huggingface_hub` is missing.
    """
    with needs_extra("weights"):
        import huggingface_hub

    with _one_line(f"{filename} of {repo} cannot be fetched", repo, revision):
        path = huggingface_hub.hf_hub_download(
            repo, filename, revision=revision, endpoint=_endpoint(), local_files_only=offline_variable() is not None
        )
        return Path(path)


def push(folder: str | os.PathLike, repo: str, *, card: str, token: str | None = None, private: bool = False) -> str:
    """Uploads the files of a folder, with a model card, as one commit.

    Hidden files are left out, and so is a README.md of the folder, which the card replaces. Files that are only in the
    repository are kept.

    Args:
      folder: files to publish; those of its folders too.
      repo: name of the repository, 'USER/NAME'; it is created if it does not exist.
      card: README.md, see `model_card`.
      token: of the user, with the right to write; None for that of HF_TOKEN or of the login.
      private: whether a new repository is private. One that exists is not changed.

    Returns:
      Address of the commit.

    Raises:
      UserError: nothing is in the folder, the upload failed, or `huggingface_hub` is missing.
    """
    with needs_extra("weights"):
        import huggingface_hub

    if variable := offline_variable():
        raise UserError(f"{repo} cannot be written: {variable} forbids requests")
    files = _published(Path(folder))
    if not files:
        raise UserError(f"{folder} holds no file to publish")
    operations = [huggingface_hub.CommitOperationAdd(name, file) for name, file in files.items()]
    operations.append(huggingface_hub.CommitOperationAdd(_CARD, card.encode()))
    with _one_line(f"{repo} cannot be written", repo):
        hub = huggingface_hub.HfApi(endpoint=_endpoint(), token=token)
        hub.create_repo(repo, private=private, exist_ok=True)
        return hub.create_commit(repo, operations, commit_message="Add weights of inception_jax").commit_url


def _published(folder: Path) -> dict[str, Path]:
    """Returns the files of a folder by their names in a repository."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    shown = {name: path for name, path in found.items() if not any(part.startswith(".") for part in name.parts)}
    return {name.as_posix(): path for name, path in shown.items() if name.as_posix() != _CARD}


def model_card(
    metadata: Mapping[str, Any],
    results: Mapping[str, Any] | None,
    *,
    repo: str,
    files: Sequence[str] = (),
    license: str | None = None,
    dataset: str | None = None,
    split: str | None = None,
    source: str | None = None,
) -> str:
    """Returns a model card: Markdown below metadata in YAML.

    It states what was measured and what is known, nothing else. Without `results` it says that the network was not
    evaluated; without a license it names none.

    Args:
      metadata: of the network, as `Classifier.save` writes it: 'model', 'class_names' and 'preprocessing'.
      results: what evaluation.json of a workdir holds, or its results.json, of which the best checkpoint is taken.
        Rows of several networks are left out.
      repo: name of the repository, 'USER/NAME'.
      files: names of the published files.
      license: of the weights, by the hub's names, such as 'apache-2.0'.
      dataset: that the network was trained and evaluated on, such as 'imagenet2012'.
      split: of the dataset that it was evaluated on.
      source: where the weights come from, a sentence.

    Raises:
      UserError: `huggingface_hub` is missing.
    """
    with needs_extra("weights"):
        from huggingface_hub import EvalResult, ModelCardData

    network, classes = metadata["model"]["name"], metadata["class_names"]
    rows = _rows(results or {}, network, len(classes))
    title = repo.rpartition("/")[2]
    measured = (
        []
        if dataset is None
        else [  # the hub wants a dataset
            EvalResult(
                task_type="image-classification",
                dataset_type=dataset,
                dataset_name=dataset,
                dataset_split=split,
                metric_type="accuracy",
                metric_name=f"{name} accuracy, {row['protocol']}",
                metric_value=row[key],
            )
            for row in rows
            for name, key in (("top-1", "top1"), ("top-5", "top5"))
        ]
    )
    head = ModelCardData(
        license=license,
        library_name="inception_jax",
        pipeline_tag="image-classification",
        tags=["image-classification", "jax", "flax", network],
        datasets=[dataset] if dataset else None,
        metrics=["accuracy"] if rows else None,
        model_name=title if measured else None,
        eval_results=measured or None,
    )
    about = f"The network `{network}` of inception_jax with {len(classes):,} classes."
    sections = [
        f"---\n{head.to_yaml()}\n---",
        f"# {title}",
        f"{about} {source}" if source else about,
        "## Results",
        _results_of(rows, f"{dataset}, {split}" if dataset and split else dataset),
        "## Use",
        _use(repo, files),
        "## Preprocessing",
        _preprocessing(metadata["preprocessing"]),
    ]
    return "\n\n".join(sections) + "\n"


def _rows(results: Mapping[str, Any], network: str, classes: int) -> list[dict[str, Any]]:
    """Returns the measured rows: 'protocol', 'count', 'top1', 'top5', and 'printed' as evaluation.json has it."""
    if best := results.get("best"):  # results.json, written by training
        printed = printed_result([network], "single") if classes == _IMAGENET_CLASSES else None
        return [best | {"protocol": "single", "printed": printed and printed._asdict()}]
    return [
        row | {"protocol": _protocol(row["protocols"][0]), "printed": row.get("printed_error_percent")}
        for row in results.get("rows", [])
        if len(row["networks"]) == 1
    ]


def _protocol(protocol: Mapping[str, Any]) -> str:
    """Returns the name of a protocol with its scales."""
    scales = ", ".join(map(str, protocol["scales"]))
    return f"{protocol['name']} at {scales}" if scales else protocol["name"]


def _results_of(rows: Sequence[Mapping[str, Any]], dataset: str | None) -> str:
    """Returns the table of the measured figures, the paper's beside them."""
    if not rows:
        return "This network was not evaluated."
    header = ["protocol", "images", "top-1", "top-5", "paper top-1", "paper top-5"]
    cells = []
    for row in rows:
        printed = row["printed"] or {}
        errors = (printed.get(key) for key in ("top1", "top5"))
        paper = ["" if error is None else console.percent(1 - error / 100) for error in errors]
        cells.append(
            [row["protocol"], f"{row['count']:,}", console.percent(row["top1"]), console.percent(row["top5"]), *paper]
        )
    if not any(row["printed"] for row in rows):
        header, cells = header[:4], [line[:4] for line in cells]
    lines = [markdown.table(header, cells, right=header[1:])]
    notes = [f"Images: {dataset}."] if dataset else []
    sources = dict.fromkeys(row["printed"]["source"] for row in rows if row["printed"])
    notes += [f"Paper: 100 % minus the error of {source}." for source in sources]
    return "\n\n".join(lines + notes)


def _use(repo: str, files: Sequence[str]) -> str:
    """Says how the files are loaded."""
    loadable = [name for name in files if name.endswith((".safetensors", ".npz"))]
    others = [name for name in files if name not in loadable]
    lines = []
    if loadable:
        lines = [
            "```python",
            "import inception_jax",
            "from inception_jax.weights.hub import fetch_from_hub",
            "",
            f'classifier = inception_jax.load(fetch_from_hub("{repo}", "{loadable[0]}"))',
            'probabilities = classifier.predict(["cat.jpg", "dog.jpg"])',
            "```",
        ]
    if others:
        lines += ["", f"Other files: {', '.join(f'`{name}`' for name in others)}."]
    return "\n".join(lines).strip() or "The weights are not published."


def _preprocessing(keys: Mapping[str, Any]) -> str:
    """Describes how an image becomes the network's input in evaluation."""
    described = {
        "size": "height and width of the network's input, in pixels",
        "resize": "shorter side of the image before its central square is cut, in pixels",
        "channels": "3: RGB; 1: luma",
        "mean": "subtracted from red, green and blue, on the scale 0 to 255",
        "std": "what they are divided by then",
        "whitening": "replaces mean and std unless it is none",
        "interpolation": "of the resizing; mixed counts as bilinear",
    }
    rows = [[f"`{key}`", _text(value), described.get(key, "")] for key, value in keys.items() if key not in _TRAINING]
    return markdown.table(["key", "value", "meaning"], rows)


def _text(value: Any) -> str:
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else f"{value}"


def _endpoint() -> str | None:
    """Address of the hub if it is not Hugging Face's; `huggingface_hub` reads it only once, when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None


@contextlib.contextmanager
def _one_line(failed: str, repo: str, revision: str | None = None) -> Iterator[None]:
    """Turns the errors of `huggingface_hub` into a UserError: `failed`, the reason and the way out."""
    from huggingface_hub import errors

    hub = _endpoint() or _HUB
    login = "log in (hf auth login) or set HF_TOKEN"
    try:
        yield
    except errors.HFValidationError:
        reason = f"{repo!r} is not a name such as timm/inception_v3.tf_in1k"
    except errors.GatedRepoError:  # before its base class, as LocalEntryNotFoundError below
        reason = f"it is gated; accept its conditions at {hub}/{repo}, then {login}"
    except errors.RepositoryNotFoundError:
        reason = f"{hub} has no such repository, or it is private; then {login}"
    except errors.RevisionNotFoundError:
        reason = f"it has no revision {revision!r}"
    except errors.LocalEntryNotFoundError as error:
        variable = offline_variable()
        forbidden = f"it is not in the cache, and {variable} forbids requests"
        reason = f"{forbidden if variable else _reason(error.__cause__ or error)}; {WAY_OUT}"
    except errors.EntryNotFoundError:
        reason = f"the repository has no such file; see {hub}/{repo}/tree/{revision or 'main'}"
    except errors.HfHubHTTPError as error:
        denied = error.response.status_code in (401, 403)
        reason = _reason(error) + (f"; {login}, with a token that may do this" if denied else "")
    except RuntimeError as error:  # a broken upload, which only the cause explains
        reason = f"{_reason(error)} {_reason(error.__cause__) if error.__cause__ else ''}"
    except (errors.HTTPError, OSError, ValueError) as error:  # no network, a full disk, an answer that is no hub's
        reason = _reason(error)
    else:
        return
    raise UserError(one_line(f"{failed}: {reason}")) from None


def _reason(error: BaseException) -> str:
    """Describes an error, whose message may have several lines."""
    return one_line(str(error))[:300] or type(error).__name__
