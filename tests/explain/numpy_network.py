"""Networks in NumPy, float64, one loop over cells for each unit: forward, and backward by a rule for ReLUs.

It reads the description of a network and shares no code with the network that JAX runs.
"""

import numpy as np

from inception_jax.models.units import (
    AdaptiveAvgPool,
    AverageLogits,
    AvgPool,
    Chain,
    Concat,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    GlobalAvgPool,
    LocalResponseNorm,
    Logits,
    MaxPool,
    Residual,
)


class NumpyNetwork:
    """Runs a network on images [N, H, W, C]; `backward` takes a signal at the end of the last run to its start."""

    def __init__(self, model, variables, rule):
        self.model, self.variables, self.rule = model, variables, rule

    def forward(self, x):
        self.steps = []
        x = np.asarray(x, np.float64)
        for name, unit in self.model.layers:
            x, back = self._unit(unit, x, name)
            self.steps.append(back)
        return x

    def backward(self, signal):
        for back in reversed(self.steps):
            signal = back(signal)
        return signal

    def _values(self, scope, name):
        values = self.variables["params"][scope].get(name, {})
        return {key: np.asarray(value, np.float64) for key, value in values.items()}

    def _relu(self, y):
        def back(signal):
            if self.rule != "deconvnet":
                signal = signal * (y > 0)
            if self.rule != "backprop":
                signal = signal * (signal > 0)
            return signal

        return np.maximum(y, 0), back

    def _unit(self, unit, x, scope):
        match unit:
            case Chain(units):
                return self._chain([lambda x, part=part: self._unit(part, x, scope) for part in units], x)
            case Concat(branches):
                outputs, backs = zip(*(self._unit(branch, x, scope) for branch in branches), strict=True)
                ends = np.cumsum([y.shape[-1] for y in outputs])[:-1]

                def back(signal):
                    return sum(b(part) for b, part in zip(backs, np.split(signal, ends, axis=-1), strict=True))

                return np.concatenate(outputs, axis=-1), back
            case Residual(branch, shortcut, projection, scale, activation):
                y, back_branch = self._unit(branch, x, scope)
                if projection:
                    values = self._values(scope, projection)
                    y = y @ values["kernel"][0, 0] + values["bias"]
                    before = back_branch

                    def back_branch(signal):
                        return before(signal @ values["kernel"][0, 0].T)

                s, back_shortcut = (x, lambda signal: signal) if shortcut is True else self._unit(shortcut, x, scope)
                total, back_relu = self._relu(s + scale * y) if activation else (s + scale * y, lambda signal: signal)

                def back(signal):
                    signal = back_relu(signal)
                    return back_shortcut(signal) + back_branch(scale * signal)

                return total, back
            case Conv():
                return self._conv(unit, x, scope)
            case DepthwiseConv(name, multiplier, kernel, stride, _):
                channels = x.shape[-1]
                plain = Conv(name, multiplier * channels, kernel, stride, groups=channels, batch_norm=False)
                return self._convolve(plain, x, self._values(scope, name)["kernel"])
            case MaxPool(window, stride, padding):
                return self._pool(x, window, stride, padding or self.model.style.pool_padding, self._max, -np.inf)
            case AvgPool(window, stride, padding):
                counts = self.model.style.count_include_pad
                window = min(window, *x.shape[1:3]) if padding == "VALID" else window
                return self._pool(x, window, stride, padding, self._mean, 0 if counts else np.nan)
            case AdaptiveAvgPool(size):
                return self._adaptive(x, size)
            case GlobalAvgPool() | AverageLogits():
                y = x.mean(axis=(1, 2), keepdims=isinstance(unit, GlobalAvgPool))

                def back(signal):
                    return np.broadcast_to(signal.reshape(len(x), 1, 1, -1) / (x.shape[1] * x.shape[2]), x.shape)

                return y, back
            case LocalResponseNorm():
                return self._response_norm(unit, x)
            case Dropout():
                return x, lambda signal: signal
            case Dense() | Logits():
                return self._dense(unit, x, scope)
        raise TypeError(unit)

    def _chain(self, parts, x):
        backs = []
        for part in parts:
            x, back = part(x)
            backs.append(back)

        def back(signal):
            for each in reversed(backs):
                signal = each(signal)
            return signal

        return x, back

    def _conv(self, unit, x, scope):
        values = self._values(scope, unit.name)
        y, back_linear = self._convolve(unit, x, values["kernel"])
        y = y + values.get("bias", 0)
        factor = 1.0
        if self.model.style.batch_norm and unit.batch_norm:
            name, norm = f"{unit.name}_bn", self._values(scope, f"{unit.name}_bn")
            statistics = self.variables["batch_stats"][scope][name]
            factor = norm["scale"] / np.sqrt(np.asarray(statistics["var"]) + self.model.style.batch_norm.epsilon)
            y = (y - np.asarray(statistics["mean"])) * factor + norm["bias"]
        y, back_relu = self._relu(y) if unit.activation else (y, lambda signal: signal)
        return y, lambda signal: back_linear(back_relu(signal) * factor)

    def _convolve(self, unit, x, kernel):
        height, width, per_group, features = kernel.shape
        pads = self._pads(x, (height, width), unit.stride, unit.padding or self.model.style.conv_padding)
        groups, out = x.shape[-1] // per_group, features * per_group // x.shape[-1]
        padded = np.pad(x, [(0, 0), *pads, (0, 0)])
        rows, columns = self._counts(padded, (height, width), unit.stride)
        y = np.zeros((len(x), rows, columns, features))
        places = [
            (i, j, slice(i * unit.stride, i * unit.stride + height), slice(j * unit.stride, j * unit.stride + width))
            for i in range(rows)
            for j in range(columns)
        ]
        parts = [(slice(g * per_group, (g + 1) * per_group), slice(g * out, (g + 1) * out)) for g in range(groups)]
        for i, j, down, right in places:
            for inputs, outputs in parts:
                y[:, i, j, outputs] = np.tensordot(padded[:, down, right, inputs], kernel[..., outputs], 3)

        def back(signal):
            total = np.zeros_like(padded)
            for i, j, down, right in places:
                for inputs, outputs in parts:
                    total[:, down, right, inputs] += np.tensordot(
                        signal[:, i, j, outputs], kernel[..., outputs], (1, 3)
                    )
            return self._unpad(total, pads)

        return y, back

    def _dense(self, unit, x, scope):
        values = self._values(scope, unit.name)
        if unit.window:
            kernel = values["kernel"].reshape(unit.window, unit.window, x.shape[-1], -1)
            y, back_linear = self._convolve(Conv(unit.name, kernel.shape[-1], unit.window, padding="VALID"), x, kernel)
        else:
            y = x.reshape(len(x), -1) @ values["kernel"]

            def back_linear(signal):
                return (signal @ values["kernel"].T).reshape(x.shape)

        y = y + values["bias"]
        if not unit.activation:
            return y, back_linear
        y, back_relu = self._relu(y)
        return y, lambda signal: back_linear(back_relu(signal))

    def _pool(self, x, window, stride, padding, cell, fill):
        pads = self._pads(x, (window, window), stride, padding)
        padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
        rows, columns = self._counts(padded, (window, window), stride)
        y, weights = np.zeros((len(x), rows, columns, x.shape[-1])), {}
        for i in range(rows):
            for j in range(columns):
                part = padded[:, i * stride : i * stride + window, j * stride : j * stride + window]
                y[:, i, j], weights[i, j] = cell(part)

        def back(signal):
            total = np.zeros_like(padded)
            total[...] = 0
            for (i, j), weight in weights.items():
                down, right = slice(i * stride, i * stride + window), slice(j * stride, j * stride + window)
                total[:, down, right] += weight * signal[:, None, None, i, j]
            return self._unpad(total, pads)

        return y, back

    @staticmethod
    def _max(part):
        """The switches: 1 at the first maximum of each channel."""
        flat = part.reshape(len(part), -1, part.shape[-1])
        switches = np.zeros_like(flat)
        np.put_along_axis(switches, flat.argmax(axis=1)[:, None], 1.0, axis=1)
        return flat.max(axis=1), switches.reshape(part.shape)

    @staticmethod
    def _mean(part):
        """Cells of NaN are padding that does not count."""
        counted = ~np.isnan(part)
        weights = counted / counted.sum(axis=(1, 2), keepdims=True)
        return np.nansum(part * weights, axis=(1, 2)), weights

    @staticmethod
    def _adaptive(x, size):
        def bounds(n):
            return [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]

        places = [(i, j, *a, *b) for i, a in enumerate(bounds(x.shape[1])) for j, b in enumerate(bounds(x.shape[2]))]
        y = np.zeros((len(x), size, size, x.shape[-1]))
        for i, j, top, bottom, left, right in places:
            y[:, i, j] = x[:, top:bottom, left:right].mean(axis=(1, 2))

        def back(signal):
            total = np.zeros_like(x)
            for i, j, top, bottom, left, right in places:
                total[:, top:bottom, left:right] += signal[:, None, None, i, j] / ((bottom - top) * (right - left))
            return total

        return y, back

    @staticmethod
    def _response_norm(unit, x):
        channels, before, after = x.shape[-1], (unit.size - 1) // 2, unit.size // 2
        group = channels // unit.groups
        near = np.array([
            [float(-before <= j - c <= after and j // group == c // group) for c in range(channels)]
            for j in range(channels)
        ])  # fmt: skip
        base = unit.k + unit.alpha / unit.size * (x**2 @ near)

        def back(signal):
            # y_c = x_c base_c^-beta; x_j stands in base_c of its neighbours too.
            inner = signal * x * base ** (-unit.beta - 1)
            return signal * base**-unit.beta - 2 * unit.alpha * unit.beta / unit.size * x * (inner @ near.T)

        return x * base**-unit.beta, back

    @staticmethod
    def _pads(x, window, stride, rule):
        if rule == "SAME":
            totals = [max((-(-n // stride) - 1) * stride + k - n, 0) for n, k in zip(x.shape[1:3], window, strict=True)]
            return [(total // 2, total - total // 2) for total in totals]
        return [(0, 0), (0, 0)]

    @staticmethod
    def _counts(padded, window, stride):
        return [(n - k) // stride + 1 for n, k in zip(padded.shape[1:3], window, strict=True)]

    @staticmethod
    def _unpad(total, pads):
        (top, bottom), (left, right) = pads
        return total[:, top : total.shape[1] - bottom, left : total.shape[2] - right]
