"""The operations of GoogLeNet at all their sizes, in inference and in training, beside XLA's own and PyTorch's.

The side 'XLA' has the plain operations of `jax.lax`, so on any device it says what our fast paths gain there. The
gradient of its max-pool is XLA's select-and-scatter.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterator

from experiments.benchmark import contest
from experiments.benchmark.contest import Side

FORWARD, TRAINING = "forward", "training"  # the latter: forward with the gradients, in the form of a training step


@dataclasses.dataclass(frozen=True)
class OpCase:
    """An operation on [batch, size, size, channels]."""

    kind: str  # 'max pool', 'average pool', 'response norm', 'convolution'
    size: int
    channels: int
    window: int = 0
    stride: int = 1
    features: int = 0

    def __str__(self):
        grid = f"{self.size}x{self.size}x{self.channels}"
        kernel = f" {self.window}x{self.window}/{self.stride}" if self.window else ""
        return f"{self.kind}{kernel} {grid}" + (f" to {self.features}" if self.features else "")


def operations() -> list[OpCase]:
    """Returns the operations of the network, each once."""
    from inception_jax import create_model
    from inception_jax.models import trace

    model = create_model("googlenet")
    main, heads = trace.layers(model, model.input_shape)
    found: dict[OpCase, None] = {}
    for each in (operation for layer in (*main, *heads) for operation in layer.operations):
        size, channels = each.output[0] * each.stride, each.output[-1]
        if each.kind == "convolution":
            size, channels = each.convolution.image[1], each.convolution.image[3]
            found[OpCase(each.kind, size, channels, each.window[0], each.stride, each.output[-1])] = None
        elif each.kind == "max pool":
            found[OpCase(each.kind, size, channels, each.window[0], each.stride)] = None
        elif each.kind == "average pool":  # that of the auxiliary heads, without padding
            size += each.window[0] - each.stride
            found[OpCase(each.kind, size, channels, each.window[0], each.stride)] = None
        elif each.kind == "response norm":
            found[OpCase(each.kind, size, channels)] = None
    return sorted(found, key=lambda case: "pool" not in case.kind)


def measure(batch: int, dtype: str, repeats: int) -> Iterator[dict]:
    """Yields a row for each operation, pass and side."""
    builders = {"ours": ours, "XLA": xla, "PyTorch": torch_ops}
    starts = {name: functools.partial(Side, build, batch, dtype) for name, build in builders.items()}
    with contest.started(starts) as (sides, skipped):
        for side, why in skipped.items():
            yield {"operation": "all", "side": side, "batch": batch, "dtype": dtype, "skipped": why}
        for name in sides["ours"].names:
            seconds = contest.take_turns(sides, [name], repeats)
            for side in sides:
                yield {
                    "operation": name,
                    "side": side,
                    "batch": batch,
                    "dtype": dtype,
                    "milliseconds": 1000 * statistics.median(seconds[side, name]),
                    "ratio": contest.ratio(seconds[side, name], seconds["ours", name]),
                    "repeats": repeats,
                }


def ours(batch: int, dtype: str) -> dict[str, Callable]:
    """Builds our operations under `jax.jit`."""
    return _jax_calls(our_forms, batch, dtype)


def xla(batch: int, dtype: str) -> dict[str, Callable]:
    """Builds the plain operations of `jax.lax` under `jax.jit`."""
    return _jax_calls(xla_forms, batch, dtype)


def our_forms(case: OpCase) -> tuple[Callable, Callable]:
    """Returns our operation in the forms of inference and of training: functions of the input, and of a kernel."""
    from inception_jax import ops

    match case.kind:
        case "max pool":
            options = {"window": case.window, "stride": case.stride, "padding": _pool_padding(case)}
            return tuple(functools.partial(pool, **options) for pool in (ops.max_pool, ops.max_pool_in_training))
        case "average pool":
            options = {"window": case.window, "stride": case.stride, "padding": "VALID", "count_include_pad": True}
            form = functools.partial(ops.avg_pool, **options)
        case "response norm":
            form = ops.local_response_norm
        case _:
            options = _conv_options(case)
            return tuple(functools.partial(conv, **options) for conv in (ops.convolve, ops.convolve_in_training))
    return form, form


def xla_forms(case: OpCase) -> tuple[Callable, Callable]:
    """Returns the same of `jax.lax`, which has one form for both."""
    import jax.numpy as jnp
    from jax import lax

    from inception_jax.ops import explicit_padding

    def pool(x, start, combine):
        window, strides = (1, case.window, case.window, 1), (1, case.stride, case.stride, 1)
        pads = explicit_padding(x.shape[1:3], window[1:3], case.stride, _pool_padding(case))
        return lax.reduce_window(x, start, combine, window, strides, [(0, 0), *pads, (0, 0)])

    def max_pool(x):
        return pool(x, -jnp.inf, lax.max)

    def average_pool(x):
        return (pool(x.astype(jnp.float32), 0.0, lax.add) / case.window**2).astype(x.dtype)

    def response_norm(x):
        square = lax.square(x.astype(jnp.float32))
        total = lax.reduce_window(square, 0.0, lax.add, (1, 1, 1, 5), (1,) * 4, [(0, 0)] * 3 + [(2, 2)])
        return (x * (1.0 + 1e-4 / 5 * total) ** -0.75).astype(x.dtype)

    def convolution(x, kernel):
        options = _conv_options(case)
        return lax.conv_general_dilated(x, kernel, options.pop("strides"), options.pop("padding"), **options)

    forms = {"max pool": max_pool, "average pool": average_pool, "response norm": response_norm}
    form = forms.get(case.kind, convolution)
    return form, form


def _pool_padding(case: OpCase) -> str:
    if case.kind == "average pool":
        return "VALID"
    return "CEIL" if case.stride > 1 else "SYMMETRIC"


def _conv_options(case: OpCase) -> dict:
    pads = [((case.window - 1) // 2,) * 2] * 2
    return {"strides": (case.stride,) * 2, "padding": pads, "dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def arguments_of(case: OpCase, batch: int, dtype: str) -> tuple:
    """Draws the input, and the kernel of a convolution."""
    import jax.numpy as jnp

    shapes = [(batch, case.size, case.size, case.channels)]
    if case.kind == "convolution":
        shapes.append((case.window, case.window, case.channels, case.features))
    return tuple(jnp.asarray(contest.noise(shape, seed), dtype) for seed, shape in enumerate(shapes))


def with_gradients(form: Callable) -> Callable:
    """Returns a function of (gradient of the output, arguments) to the output and the gradients of the arguments."""
    import jax

    def run(gradient, arguments):
        y, backward = jax.vjp(form, *arguments)
        return y, backward(gradient)

    return run


def _jax_calls(forms: Callable[[OpCase], tuple[Callable, Callable]], batch: int, dtype: str) -> dict[str, Callable]:
    jax = contest.start_jax(dtype)
    calls = {}
    for case in operations():
        inference, training = forms(case)
        arguments = arguments_of(case, batch, dtype)
        output = jax.eval_shape(inference, *arguments)
        gradient = jax.numpy.asarray(contest.noise(output.shape, 2), dtype)
        forward, both = jax.jit(inference), jax.jit(with_gradients(training))
        calls[f"{case}, {FORWARD}"] = lambda f=forward, a=arguments: jax.block_until_ready(f(*a))
        calls[f"{case}, {TRAINING}"] = lambda f=both, g=gradient, a=arguments: jax.block_until_ready(f(g, a))
    return calls


def torch_ops(batch: int, dtype: str) -> dict[str, Callable]:
    """Builds PyTorch's operations, channels_last."""
    torch, device = contest.start_torch()
    functional, layout = torch.nn.functional, torch.channels_last

    def tensor(shape, seed=0):
        data = torch.tensor(contest.noise(shape, seed)).to(device, getattr(torch, dtype))
        return data.permute(0, 3, 1, 2).contiguous(memory_format=layout)

    calls = {}
    for operation in operations():
        size, window, stride = operation.size, operation.window, operation.stride
        arguments = [tensor((batch, size, size, operation.channels)).requires_grad_()]
        if operation.kind == "max pool":
            pad = 0 if stride > 1 else (window - 1) // 2
            run = lambda x, w=window, s=stride, p=pad: functional.max_pool2d(x, w, s, p, ceil_mode=True)  # noqa: E731
        elif operation.kind == "average pool":
            run = lambda x, w=window, s=stride: functional.avg_pool2d(x, w, s)  # noqa: E731
        elif operation.kind == "response norm":
            run = lambda x: functional.local_response_norm(x, 5, 1e-4, 0.75, 1.0)  # noqa: E731
        else:
            arguments.append(tensor((operation.features, window, window, operation.channels), 1).requires_grad_())
            pad = (window - 1) // 2
            run = lambda x, k, s=stride, p=pad: functional.conv2d(x, k, stride=s, padding=p)  # noqa: E731
        with torch.no_grad():
            gradient = torch.ones_like(run(*arguments))

        def forward(run=run, arguments=arguments):
            with torch.inference_mode():
                run(*arguments)
            contest.synchronize(torch, device)

        def both(run=run, arguments=arguments, gradient=gradient):
            torch.autograd.grad(run(*arguments), arguments, gradient)
            contest.synchronize(torch, device)

        calls[f"{operation}, {FORWARD}"], calls[f"{operation}, {TRAINING}"] = forward, both
    return calls
