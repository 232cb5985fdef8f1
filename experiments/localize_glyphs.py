"""Measures which heat maps find the characters among clutter, and prints the table of docs/localisation.md.

python -m experiments.localize_glyphs --workdir=RUN_OF_SEED_0 --workdir=RUN_OF_SEED_1 --json=results/localization.json
python -m experiments.localize_glyphs --read=results/localization.json    # the table again, from what was measured
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from experiments import cli

if TYPE_CHECKING:
    from inception_jax.explain import Explanation
    from inception_jax.runs.classifier import Classifier

_IMAGES, _FAITHFUL, _STEPS = 200, 64, 16
_FINER = "inception_4e"  # in GoogLeNet a grid twice as fine as the last one
# What the table calls a method, its name, and the layer if it is not the last one with a grid.
_METHODS = {
    "CAM": ("cam", ""),
    "Grad-CAM": ("gradcam", ""),
    f"Grad-CAM of {_FINER}": ("gradcam", _FINER),
    f"Grad-CAM++ of {_FINER}": ("gradcam++", _FINER),
    "gradient": ("gradient", ""),
    "random heat map": ("random", ""),
}
_EPILOG = f"""\
A run is of a network with a last grid of 8 x 8 cells or more, on glyphs of difficulty 4; docs/localisation.md has the
command. For each method, the threshold is the best one of {_IMAGES} training images, evenly spread, and GT-known is
measured with it on {_IMAGES} test images. Deletion and insertion are of the first {_FAITHFUL} of these, in {_STEPS}
steps. What was measured of a run is kept in its workdir, as localization.json, and not measured again.
"""


@dataclasses.dataclass(frozen=True)
class _Random:
    """Heat that knows nothing: uniform numbers on a grid as CAM's, others for each image."""

    grid: tuple[int, int]

    def __call__(self, explained, variables, images, channels):  # noqa: ARG002 (as a method of explain)
        import jax

        def heat(image):
            key = jax.random.fold_in(jax.random.key(0), jax.lax.bitcast_convert_type(image.sum(), np.uint32))
            return jax.random.uniform(key, self.grid)

        return jax.vmap(heat)(images)

    def heat(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns the numbers, interpolated as those of CAM."""
        from inception_jax.explain.methods import ActivationMap

        return ActivationMap("cam").heat(values, size)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input, 130 for Ctrl-C."""
    parser = cli.Parser("-m experiments.localize_glyphs", __doc__, _EPILOG)
    add = parser.add_argument
    add("--workdir", type=cli.path, action="append", default=[], help="run; several for an interval over seeds")
    add("--data-dir", help="directory of the glyphs (default: as in the runs)")
    add("--read", type=cli.path, metavar="FILE", help="print the table of such a JSON file")
    add("--json", type=cli.path, metavar="FILE", help="also write all numbers as JSON")
    return cli.run(parser, _print, argv)


def _print(arguments: argparse.Namespace) -> None:
    from inception_jax.errors import UserError
    from inception_jax.paths import write_whole
    from inception_jax.runtime import configure

    if bool(arguments.workdir) == bool(arguments.read):
        raise UserError("give --workdir, or --read")
    if arguments.read:
        record = _read(arguments.read)
    else:
        configure("float32")
        cli.check_writable(arguments.json)
        record = {"images": _IMAGES, "faithful": _FAITHFUL, "steps": _STEPS}
        record["runs"] = [_measured(workdir, arguments.data_dir) for workdir in arguments.workdir]
    if arguments.json:
        write_whole(arguments.json, (json.dumps(record, indent=1) + "\n").encode())
    print(table(record))


def _read(file: Any) -> Any:
    from inception_jax.errors import UserError

    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        table(record)
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{file} is not what --json writes") from None
    return record


def _measured(workdir: Any, data_dir: str | None) -> dict[str, Any]:
    from inception_jax.data.boxes import iou
    from inception_jax.evaluation.evaluate import open_data
    from inception_jax.explain.methods import Method
    from inception_jax.explain.network import Explained, last_grid
    from inception_jax.localization.metrics import FITS
    from inception_jax.paths import write_whole
    from inception_jax.runs.classifier import load

    file = workdir / "localization.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    classifier = load(workdir)
    train, test = (_spread(open_data([workdir], split=split, data_dir=data_dir)[0]) for split in ("train", "test"))
    explained = Explained(classifier.model, classifier.end_points[-1], classifier.preprocessing)
    grid = classifier.end_point_shape(last_grid(explained, classifier.input_shape))[:2]
    row: dict[str, Any] = {"run": classifier.title, "grid": grid, "methods": {}}
    for title, (name, layer) in _METHODS.items():
        method = cast(Method, _Random(grid)) if name == "random" else name
        row["methods"][title], explanations = _of_method(classifier, train, test, method, layer)
        print(f"{classifier.title}: {title} {row['methods'][title]}", file=sys.stderr, flush=True)
    row["random_order"] = _of_random_order(classifier, explanations)

    truth = {split: np.concatenate([source.boxes(i) for i in range(len(source))]) for split, source in
             (("train", train), ("test", test))}  # fmt: skip
    side = classifier.crop_config.size
    mean = (truth["train"][:, 2:] - truth["train"][:, :2] + 1).mean(axis=0)
    centre = np.concatenate([(side - mean) / 2, (side + mean) / 2 - 1])
    for title, box in (("centred box of the mean size", centre), ("whole image", np.array([0, 0, side - 1, side - 1]))):
        row["methods"][title] = {"known": float((iou(box, truth["test"]) >= FITS).mean())}
    write_whole(file, (json.dumps(row, indent=1) + "\n").encode())
    return row


def _spread(source: Any) -> Any:
    from inception_jax.data.sources import Subset

    return Subset(source, (np.arange(_IMAGES) * len(source) // _IMAGES).tolist())


def _of_method(
    classifier: "Classifier", train: Any, test: Any, method: Any, layer: str
) -> tuple[dict[str, float], list["Explanation"]]:
    """Returns what is measured of a method, and the explanations of the first test images."""
    from inception_jax.explain.sanity import faithfulness
    from inception_jax.localization import localise, summarise

    curves, kept = {}, []
    for split, source in (("train", train), ("test", test)):
        judged = []
        for one in localise(classifier, source, method, layer=layer, top=0):
            judged.append(one.judged)
            kept += [one.explanation] if split == "test" and len(judged) <= _FAITHFUL else []
        curves[split] = summarise(judged)
    chosen = int(curves["train"].known_by_threshold.argmax())
    measured = faithfulness(classifier, kept, steps=_STEPS)
    return {
        "threshold": curves["train"].best_threshold,
        "known_train": curves["train"].best_known,
        "known": float(curves["test"].known_by_threshold[chosen]),
        "max_box_acc": curves["test"].max_box_acc.mean,
        "class_error": curves["test"].top1_class_error,
        "deletion": float(measured.deletion.mean()),
        "insertion": float(measured.insertion.mean()),
    }, kept


def _of_random_order(classifier: "Classifier", explanations: Sequence["Explanation"]) -> dict[str, float]:
    """Returns deletion and insertion with the pixels of each image in a random order."""
    from inception_jax.explain.sanity import faithfulness

    rng = np.random.default_rng(0)
    shuffled = [dataclasses.replace(one, heat=rng.random(one.heat.shape, np.float32)) for one in explanations]
    measured = faithfulness(classifier, shuffled, steps=_STEPS)
    return {"deletion": float(measured.deletion.mean()), "insertion": float(measured.insertion.mean())}


def table(record: Mapping[str, Any]) -> str:
    """Returns the tables of docs/localisation.md as Markdown."""
    runs = record["runs"]
    titles = list(runs[0]["methods"])

    def of(title: str, name: str) -> list[float]:
        return [run["methods"][title][name] for run in runs if name in run["methods"].get(title, {})]

    rule = "|---|---|---|---|---|"
    lines = ["| heat map or box | GT-known | thresholds | against the random heat map | MaxBoxAccV2 |", rule]
    for title in titles:
        known, random = of(title, "known"), of("random heat map", "known")
        against = "" if title == "random heat map" else _points(known, random)
        thresholds = ", ".join(f"{value:g}" for value in of(title, "threshold"))
        best = _percent(of(title, "max_box_acc"))
        lines.append(f"| {title} | {_percent(known)} | {thresholds} | {against} | {best} |")
    lines += ["", "| heat map | deletion | against a random order | insertion | against a random order |", rule]
    for title in titles:
        if of(title, "deletion"):
            cells = []
            for name in ("deletion", "insertion"):
                own, order = of(title, name), [run["random_order"][name] for run in runs]
                cells += [f"{np.mean(own):.3f}", _difference(own, order)]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(values: Sequence[float]) -> str:
    """Returns the mean of fractions with Student's 95 % interval, '' without values."""
    if not values:
        return ""
    mean, half = 100 * float(np.mean(values)), _half_width(values)
    return f"{mean:.1f} %" if half is None else f"{mean:.1f} ± {100 * half:.1f} %"


def _points(first: Sequence[float], second: Sequence[float]) -> str:
    half = _half_width(np.subtract(first, second))
    mean = 100 * float(np.mean(first) - np.mean(second))
    return f"{mean:+.1f} points" if half is None else f"{mean:+.1f} ± {100 * half:.1f} points"


def _difference(first: Sequence[float], second: Sequence[float]) -> str:
    half = _half_width(np.subtract(first, second))
    mean = float(np.mean(first) - np.mean(second))
    return f"{mean:+.3f}" if half is None else f"{mean:+.3f} ± {half:.3f}"


def _half_width(values: Any) -> float | None:
    """Returns half of Student's 95 % interval of the mean; None for a single value."""
    from scipy import stats

    if len(values) < 2:
        return None
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    sys.exit(main())
