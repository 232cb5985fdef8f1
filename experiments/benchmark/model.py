"""Training steps and inference of networks beside the peers: speed, fraction of the machine's limit, memory."""

import dataclasses
import functools
import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence

from experiments.benchmark import contest
from experiments.benchmark.contest import Side, Unavailable

# One network of each kind.
NETWORKS = (
    *("googlenet", "lenet5_modern", "alexnet", "zfnet", "vgg_d", "nin_imagenet", "all_cnn_c", "bn_inception"),
    *("inception_v2", "inception_v3", "inception_v4", "inception_resnet_v1", "inception_resnet_v2", "resnet50"),
)
PEERS = ("PyTorch", "Keras")
MODES = ("inference", "train")
AUX_WEIGHT, LEARNING_RATE, MOMENTUM = 0.3, 0.01, 0.9


@dataclasses.dataclass(frozen=True)
class ModelCase:
    """A network at its paper's image size."""

    network: str
    mode: str
    dtype: str
    batch: int

    def model(self):
        """Builds the network."""
        from inception_jax import create_model

        return create_model(self.network, dtype=self.dtype)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.model().input_shape

    def operations(self) -> int:
        """Returns the multiplications and additions of a call in convolutions and dense layers."""
        return 2 * _products(self.network, self.mode) * self.batch


@functools.cache
def _products(network: str, mode: str) -> int:
    """Returns the products of one image.

    Training computes those of inference three times: for the outputs, the gradients of the inputs and those of the
    kernels. The gradient of the images is not needed, so those of the first convolution count twice.
    """
    from inception_jax import create_model
    from inception_jax.models import trace

    model = create_model(network)
    main, heads = trace.layers(model, model.input_shape)
    products = sum(layer.multiply_adds for layer in main)
    if mode == "inference":
        return products
    first = next(each for layer in main for each in layer.operations if each.convolution is not None)
    return 3 * (products + sum(head.multiply_adds for head in heads)) - first.multiply_adds


def default_batch(network: str) -> int:
    """Returns the largest power of two, up to 128, that costs inference no more products than GoogLeNet's at 32."""
    batch = 128
    while batch > 1 and batch * _products(network, "inference") > 32.5 * _products("googlenet", "inference"):
        batch //= 2
    return batch


def measure(
    networks: Sequence[str],
    modes: Sequence[str],
    dtypes: Sequence[str],
    batch: int | None,
    repeats: int,
    peers: Sequence[str],
) -> Iterator[dict]:
    """Yields a row for each network, dtype, mode and side.

    Args:
      networks: names.
      modes: names of MODES.
      dtypes: 'float32', 'bfloat16'.
      batch: number of images; None: `default_batch` of the network.
      repeats: number of rounds; 0: only the memory is measured.
      peers: names of PEERS.
    """
    builders = {"ours": ours}
    if "PyTorch" in peers:
        builders["PyTorch"] = torch_peer
        if contest.has_gpu():  # on a CPU it takes minutes to compile, and trains no faster
            builders["PyTorch compiled"] = functools.partial(torch_peer, compiled=True)
    if "Keras" in peers:
        builders["Keras"] = keras_peer
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    for network, dtype, mode in itertools.product(networks, dtypes, modes):
        case = ModelCase(network, mode, dtype, batch or default_batch(network))
        starts = {name: functools.partial(Side, build, case, environment=quiet) for name, build in builders.items()}
        with contest.started(starts) as (sides, skipped):
            key = dataclasses.asdict(case)
            yield from ({"side": side, "skipped": why} | key for side, why in skipped.items())
            try:
                yield from (row | key for row in _compare(case, sides, repeats))
            except Unavailable as error:
                yield {"side": "all", "skipped": str(error)} | key


def _compare(case: ModelCase, sides: dict[str, Side], repeats: int) -> list[dict]:
    rows = {side: {"side": side} for side in sides}
    if repeats:
        seconds = contest.take_turns(sides, ["step", "matmul"], repeats)
        limit = contest.matmul_rate(seconds)
        for side, row in rows.items():
            median = statistics.median(seconds[side, "step"])
            row["images_per_second"] = case.batch / median
            row["fraction_of_limit"] = case.operations() / median / limit
            row["matmul_rate"] = limit
            row["ratio"] = contest.ratio(seconds[side, "step"], seconds.get(("ours", "step"), seconds[side, "step"]))
            row["repeats"] = repeats
    else:
        for side in sides.values():
            side.time("step")
    for side, row in rows.items():
        row["peak_memory_gb"] = sides[side].peak_memory("step") / 1e9
    return list(rows.values())


def ours(case: ModelCase) -> dict[str, Callable]:
    """Builds our network under `jax.jit`, as a user of the library does."""
    jax = contest.start_jax(case.dtype)
    import jax.numpy as jnp
    import optax

    from inception_jax.training.losses import cross_entropy

    model = case.model()
    images = jnp.asarray(contest.noise((case.batch, *case.image_shape)))
    labels = jnp.arange(case.batch) % 10
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    calls = {"matmul": contest.jax_matmul(jax, case.dtype)}
    if jax.default_backend() != "cpu":
        calls["memory"] = lambda: jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]
    if case.mode == "inference":
        infer = jax.jit(lambda variables, images: model.apply(variables, images)[0])
        return calls | {"step": _warmed_up(lambda: jax.block_until_ready(infer(variables, images)))}

    optimizer = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)

    def loss(params, batch_stats, key):
        (logits, end_points), updated = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        targets = jax.nn.one_hot(labels, logits.shape[-1])
        total = cross_entropy(logits, targets).mean()
        for head in model.aux_heads:
            total += AUX_WEIGHT * cross_entropy(end_points[head.name], targets).mean()
        return total, updated.get("batch_stats", {})

    def update(state):
        params, batch_stats, opt_state, key = state
        key, dropout_key = jax.random.split(key)
        gradients, batch_stats = jax.grad(loss, has_aux=True)(params, batch_stats, dropout_key)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return optax.apply_updates(params, updates), batch_stats, opt_state, key

    update = jax.jit(update, donate_argnums=0)
    params = variables["params"]
    state = [(params, variables.get("batch_stats", {}), optimizer.init(params), jax.random.key(1))]
    variables = params = None  # their memory is donated

    def step():
        state[0] = jax.block_until_ready(update(state[0]))

    return calls | {"step": _warmed_up(step)}


def _warmed_up(step: Callable) -> Callable:
    from inception_jax import runtime

    step()
    runtime.release_free_memory()  # as the training loop after its first step
    return step


def torch_peer(case: ModelCase, compiled: bool = False) -> dict[str, Callable]:
    """Builds the network in PyTorch: channels_last, autocast for bfloat16, with `compiled` under `torch.compile`."""
    torch, device = contest.start_torch()
    from experiments.benchmark import torch_peer as peer

    module = peer.build(case.model(), case.image_shape)
    module = module.to(device, memory_format=torch.channels_last).train(case.mode == "train")
    images = torch.tensor(contest.noise((case.batch, *case.image_shape))).permute(0, 3, 1, 2)
    images = images.to(device, memory_format=torch.channels_last)
    labels = torch.arange(case.batch, device=device) % 10
    run = torch.compile(module) if compiled else module
    autocast = torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16")
    optimizer = torch.optim.SGD(module.parameters(), LEARNING_RATE, momentum=MOMENTUM)
    cross_entropy = torch.nn.functional.cross_entropy

    def infer():
        with torch.inference_mode(), autocast:
            run(images)
        contest.synchronize(torch, device)

    def train():
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            logits, heads = run(images)
            loss = cross_entropy(logits, labels)
            for head in heads.values():
                loss = loss + AUX_WEIGHT * cross_entropy(head, labels)
        loss.backward()
        optimizer.step()
        contest.synchronize(torch, device)

    calls = {
        "step": train if case.mode == "train" else infer,
        "matmul": contest.torch_matmul(torch, device, case.dtype),
    }
    if device == "cuda":
        calls["memory"] = torch.cuda.max_memory_allocated
    return calls


def keras_peer(case: ModelCase) -> dict[str, Callable]:
    """Builds the network in Keras, with the backend of KERAS_BACKEND."""
    try:
        import keras
    except ImportError:
        raise Unavailable("Keras is not installed (requirements-bench.txt)") from None
    import numpy as np

    from experiments.benchmark import keras_peer as peer

    keras.config.set_dtype_policy("mixed_bfloat16" if case.dtype == "bfloat16" else "float32")
    network = case.model()
    if case.mode == "inference":
        network = network.clone(aux_heads=())
    model = peer.build(network, case.image_shape)
    images = contest.noise((case.batch, *case.image_shape))
    if case.mode == "inference":
        return {"step": lambda: model.predict_on_batch(images)}
    heads = [head.name for head in network.aux_heads]
    labels = np.arange(case.batch) % 10
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM)
    if heads:
        names = ["logits", *heads]
        weights = {name: AUX_WEIGHT for name in heads} | {"logits": 1.0}
        model.compile(optimizer, loss=dict.fromkeys(names, loss), loss_weights=weights)
        labels = dict.fromkeys(names, labels)
    else:
        model.compile(optimizer, loss=loss)
    return {"step": lambda: model.train_on_batch(images, labels)}
