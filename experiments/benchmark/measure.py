"""Chooses what to measure."""

from collections.abc import Iterator, Sequence

from experiments.benchmark import PARTS, contest, crops, loader, model, ops, scaling, start
from inception_jax import list_models
from inception_jax.errors import check_choice


def measurements(
    parts: Sequence[str],
    models: Sequence[str] | None = None,
    modes: Sequence[str] | None = None,
    peers: Sequence[str] | None = None,
    dtype: str | None = None,
    batch: int | None = None,
    repeats: int = 5,
) -> Iterator[tuple[str, Iterator[dict]]]:
    """Yields each part with its rows, which are measured as they are read.

    Args:
      parts: names of PARTS.
      models: networks; `crops` and `scaling` take the first. Default: one of each kind; ('all',): all.
      modes: modes of part model; default: all.
      peers: peers of part model, () for none; default: all.
      dtype: 'float32' or 'bfloat16'; default: float32, on a GPU both, where `crops` and `scaling` take float32.
      batch: number of images; default: 32, for networks as many as cost about the same.
      repeats: number of rounds.

    Raises:
      UserError: a name is unknown.
    """
    networks = list_models() if models == ("all",) else models or model.NETWORKS
    modes = modes or model.MODES
    peers = model.PEERS if peers is None else peers
    dtypes = (dtype,) if dtype else contest.default_dtypes()
    for argument, names, known in (
        ("parts", parts, PARTS),
        ("models", networks, list_models()),
        ("modes", modes, model.MODES),
        ("peers", peers, model.PEERS),
        ("dtype", dtypes, ("float32", "bfloat16")),
    ):
        for name in names:
            check_choice(argument, name, known)
    images = batch or 32
    for part in parts:
        match part:
            case "ops":
                for dtype in dtypes:
                    yield part, ops.measure(images, dtype, repeats)
            case "model":
                yield part, model.measure(networks, modes, dtypes, batch, repeats, peers)
            case "memory" if "model" not in parts:  # which measures the memory of its cases too
                yield "model", model.measure(networks, modes, dtypes, batch, 0, peers)
            case "crops":
                yield part, crops.measure(networks[0], images, dtypes[0], repeats)
            case "loader":
                yield part, loader.measure(repeats)
            case "startup":
                yield part, start.measure(repeats)
            case "scaling":
                yield part, scaling.measure(networks[0], images, dtypes[0], repeats)
