"""The operations of GoogLeNet at all their sizes, forward and forward with backward, beside PyTorch's."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterator

from experiments.benchmark import contest
from experiments.benchmark.contest import Side

FORWARD, BOTH = "forward", "forward + backward"


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
    starts = {
        name: functools.partial(Side, build, batch, dtype) for name, build in (("ours", ours), ("PyTorch", torch_ops))
    }
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
    jax = contest.start_jax(dtype)
    jnp = jax.numpy
    from inception_jax import ops

    calls = {}
    for operation in operations():
        size, window, stride = operation.size, operation.window, operation.stride
        x = jnp.asarray(contest.noise((batch, size, size, operation.channels)), dtype)
        arguments = (x,)
        if operation.kind == "max pool":
            rule = "CEIL" if stride > 1 else "SYMMETRIC"
            run = lambda x, w=window, s=stride, r=rule: ops.max_pool(x, w, s, r)  # noqa: E731
        elif operation.kind == "average pool":
            run = lambda x, w=window, s=stride: ops.avg_pool(x, w, s, "VALID", count_include_pad=True)  # noqa: E731
        elif operation.kind == "response norm":
            run = ops.local_response_norm
        else:
            kernel = contest.noise((window, window, operation.channels, operation.features), 1)
            arguments = (x, jnp.asarray(kernel, dtype))
            pads = [((window - 1) // 2,) * 2] * 2
            run = lambda x, k, s=stride, p=pads: ops.convolve(  # noqa: E731
                x, k, (s, s), p, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        forward = jax.jit(run)
        gradient = jnp.asarray(contest.noise(jax.eval_shape(run, *arguments).shape, 2), dtype)

        def both(gradient, arguments, run=run):
            y, backward = jax.vjp(run, *arguments)
            return y, backward(gradient)

        both = jax.jit(both)
        calls[f"{operation}, {FORWARD}"] = lambda f=forward, a=arguments: jax.block_until_ready(f(*a))
        calls[f"{operation}, {BOTH}"] = lambda f=both, g=gradient, a=arguments: jax.block_until_ready(f(g, a))
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

        calls[f"{operation}, {FORWARD}"], calls[f"{operation}, {BOTH}"] = forward, both
    return calls
