"""Losses, gradients and scores of every layer, from PyTorch 2.15 in float64.

    python layers.py        writes layers.json beside this script, read by src/network/tests/oracle.rs

A case is a small network: branches of layers over inputs, then a trunk. Numbers and parameters come
from the formula `value`, so that they need not be stored. Parameters are one flat tensor in the
order of our layout, cut and transposed here; its gradient is what is compared. A dense layer before
the layer in question makes its gradient by the input visible.

Layers have channels last here as there. Rows without valid steps are left out of PyTorch's calls,
which refuse them or give NaN, and give 0.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.func import functional_call

torch.set_default_dtype(torch.float64)
ROWS = 7


def value(tag, n):
    """n numbers in [-1, 1), as float32."""
    i = np.arange(n, dtype=np.int64)
    return (((i * 7919 + tag * 104729 + (i * i) % 1013 * 31) % 2003) / 1001.5 - 1).astype(np.float32)


class Net:
    """Reads its parameters from a flat tensor, in order."""

    def __init__(self, flat, training, outputs=None):
        self.flat, self.training, self.at = flat, training, 0
        self.variances, self.statistics, self.last = [], {}, False

    def take(self, *shape):
        n = int(np.prod(shape))
        self.at += n
        return self.flat[self.at - n:self.at].reshape(shape)

    # ---- layers: x [rows, ...], lengths [rows] or None

    def dense(self, x, lengths, units, bias=True):
        w = self.take(x.shape[-1], units)
        y = x @ w
        return (y + self.take(units) if bias else y), lengths

    def window(self, n, kernel, stride, before, after, dilation):
        return (n + before + after - dilation * (kernel - 1) - 1) // stride + 1

    def shorter(self, lengths, *window):
        if lengths is None:
            return None
        return torch.where(lengths == 0, 0, self.window(lengths, *window).clamp(min=0))

    def conv(self, x, lengths, filters, kernel, stride=1, padding="valid", dilation=1, groups=1, bias=True):
        sequence = x.dim() == 3
        both = lambda v: list(v) if isinstance(v, list) else [v, v]
        if sequence:
            x, one = x.unsqueeze(1), lambda v, other: [other, v[0] if isinstance(v, list) else v]
            kernel, stride, dilation = one(kernel, 1), one(stride, 1), one(dilation, 1)
            padding = padding if isinstance(padding, str) else one(padding, 0)
        kernel, stride, dilation = both(kernel), both(stride), both(dilation)
        if padding == "same":
            pads = [(d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2) for d, k in zip(dilation, kernel)]
        else:
            pads = [(p, p) for p in both(0 if padding == "valid" else padding)]
        c = x.shape[-1] // groups
        w = self.take(*kernel, c, filters).permute(3, 2, 0, 1)
        b = self.take(filters) if bias else None
        if lengths is not None:
            x = x * (torch.arange(x.shape[2])[None] < lengths[:, None])[:, None, :, None]
        x = F.pad(x.permute(0, 3, 1, 2), (*pads[1], *pads[0]))
        y = F.conv2d(x, w, b, stride, 0, dilation, groups).permute(0, 2, 3, 1)
        if sequence:
            y = y.squeeze(1)
            lengths = self.shorter(lengths, kernel[1], stride[1], *pads[1], dilation[1])
        return y, lengths

    def pool(self, x, lengths, size, stride, padding, is_max):
        sequence = x.dim() == 3
        if not sequence:
            f = F.max_pool2d if is_max else F.avg_pool2d
            return f(x.permute(0, 3, 1, 2), size, stride or size, padding).permute(0, 2, 3, 1), None
        f = F.max_pool1d if is_max else F.avg_pool1d
        if lengths is None:
            return f(x.transpose(1, 2), size, stride or size, padding).transpose(1, 2), None
        # Each row alone.
        steps = self.window(x.shape[1], size, stride or size, padding, padding, 1)
        after = self.shorter(lengths, size, stride or size, padding, padding, 1)
        rows = []
        for row, n, m in zip(x, lengths.tolist(), after.tolist()):
            if m == 0:
                rows.append(torch.zeros(steps, x.shape[2]))
                continue
            y = f(row[:n].T[None], size, stride or size, padding)[0].T
            rows.append(F.pad(y, (0, 0, 0, steps - m)))
        return torch.stack(rows), after

    def max_pool(self, x, lengths, size, stride=None, padding=0):
        return self.pool(x, lengths, size, stride, padding, True)

    def avg_pool(self, x, lengths, size, stride=None, padding=0):
        return self.pool(x, lengths, size, stride, padding, False)

    def over_places(self, x, lengths, f):
        if lengths is None:
            return f(x.flatten(1, -2), 1), None
        zero = torch.zeros(x.shape[2])
        return torch.stack([f(r[:n], 0) if n else zero for r, n in zip(x, lengths.tolist())]), None

    def global_max_pool(self, x, lengths):
        return self.over_places(x, lengths, lambda x, d: x.amax(d))

    def global_avg_pool(self, x, lengths):
        return self.over_places(x, lengths, lambda x, d: x.mean(d))

    def batch_norm(self, x, lengths, momentum=0.1, epsilon=1e-5):
        c = x.shape[-1]
        w, b = self.take(c), self.take(c)
        mean, var = self.take(c).detach().clone(), self.take(c).detach().clone()
        self.variances.append((self.at - c, self.at))
        if lengths is None:
            valid = x.reshape(-1, c)
        else:
            keep = torch.arange(x.shape[1])[None] < lengths[:, None]
            valid = x[keep]
        y = F.batch_norm(valid, mean, var, w, b, self.training, momentum, epsilon)
        self.statistics[self.at - 2 * c] = torch.cat([mean, var])
        if lengths is None:
            return y.reshape(x.shape), lengths
        full = torch.zeros_like(x)
        full[keep] = y
        return full, lengths

    def layer_norm(self, x, lengths, epsilon=1e-5):
        c = x.shape[-1]
        return F.layer_norm(x, (c,), self.take(c), self.take(c), epsilon), lengths

    def dropout(self, x, lengths, rate=0.5):
        return x, lengths

    def relu(self, x, lengths):
        return F.relu(x), lengths

    def leaky_relu(self, x, lengths, slope=0.01):
        return F.leaky_relu(x, slope), lengths

    def gelu(self, x, lengths):
        return F.gelu(x), lengths

    def silu(self, x, lengths):
        return F.silu(x), lengths

    def tanh(self, x, lengths):
        return F.tanh(x), lengths

    def sigmoid(self, x, lengths):
        return F.sigmoid(x), lengths

    def elu(self, x, lengths, alpha=1.0):
        return F.elu(x, alpha), lengths

    def softmax(self, x, lengths):
        return F.softmax(x, -1), lengths

    def recurrent(self, kind, x, lengths, units, bidirectional=False, states="last"):
        module = kind(x.shape[-1], units, batch_first=True, bidirectional=bidirectional)
        gates = module.weight_ih_l0.shape[0]
        weights = {}
        for end in ["_l0", "_l0_reverse"][:1 + bidirectional]:
            weights["weight_ih" + end] = self.take(x.shape[-1], gates).T
            weights["weight_hh" + end] = self.take(units, gates).T
            weights["bias_ih" + end] = self.take(gates)
            weights["bias_hh" + end] = self.take(gates)
        width = units * (1 + bidirectional)
        all_states, last = torch.zeros(*x.shape[:2], width), torch.zeros(x.shape[0], width)
        rows = torch.arange(x.shape[0]) if lengths is None else (lengths > 0).nonzero()[:, 0]
        own = x.shape[1] * torch.ones(len(rows), dtype=torch.long) if lengths is None else lengths[rows]
        packed = torch.nn.utils.rnn.pack_padded_sequence(x[rows], own, batch_first=True, enforce_sorted=False)
        out, h = functional_call(module, weights, (packed,))
        h = h[0] if isinstance(h, tuple) else h
        out = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0]
        all_states[rows] = out
        last[rows] = h.transpose(0, 1).reshape(len(rows), width)
        return (all_states, lengths) if states == "all" else (last, None)

    def lstm(self, x, lengths, *args, **named):
        return self.recurrent(torch.nn.LSTM, x, lengths, *args, **named)

    def gru(self, x, lengths, *args, **named):
        return self.recurrent(torch.nn.GRU, x, lengths, *args, **named)

    def masks(self, x, lengths, causal):
        t = x.shape[1]
        rows = torch.arange(x.shape[0]) if lengths is None else (lengths > 0).nonzero()[:, 0]
        padding = None if lengths is None else torch.arange(t)[None] >= lengths[rows][:, None]
        later = torch.triu(torch.ones(t, t, dtype=torch.bool), 1) if causal else None
        return rows, padding, later

    def valid(self, y, x, rows, padding):
        full = torch.zeros_like(x)
        full[rows] = y if padding is None else y.masked_fill(padding[:, :, None], 0)
        return full

    def attention(self, x, lengths, heads=1, causal=False, dropout=0.0):
        e = x.shape[-1]
        module = torch.nn.MultiheadAttention(e, heads, batch_first=True)
        weights = {"in_proj_weight": self.take(e, 3 * e).T, "in_proj_bias": self.take(3 * e)}
        weights |= {"out_proj.weight": self.take(e, e).T, "out_proj.bias": self.take(e)}
        rows, padding, later = self.masks(x, lengths, causal)
        own = x[rows]
        y, _ = functional_call(
            module, weights, (own, own, own),
            {"key_padding_mask": padding, "attn_mask": later, "need_weights": False})
        return self.valid(y, x, rows, padding), lengths

    def transformer(self, x, lengths, heads=4, hidden=None, dropout=0.1, norm="post", activation="relu", causal=False):
        e = x.shape[-1]
        hidden = hidden or 4 * e
        module = torch.nn.TransformerEncoderLayer(
            e, heads, hidden, 0.0, activation, batch_first=True, norm_first=norm == "pre")
        weights = {}

        def attention():
            weights["self_attn.in_proj_weight"] = self.take(e, 3 * e).T
            weights["self_attn.in_proj_bias"] = self.take(3 * e)
            weights["self_attn.out_proj.weight"] = self.take(e, e).T
            weights["self_attn.out_proj.bias"] = self.take(e)

        def layer_norm(i):
            weights[f"norm{i}.weight"], weights[f"norm{i}.bias"] = self.take(e), self.take(e)

        def linear():
            for i, (d, u) in enumerate([(e, hidden), (hidden, e)]):
                weights[f"linear{i + 1}.weight"] = self.take(d, u).T
                weights[f"linear{i + 1}.bias"] = self.take(u)

        parts = [attention, lambda: layer_norm(1), linear, lambda: layer_norm(2)]
        for part in [parts[1], parts[0], parts[3], parts[2]] if norm == "pre" else parts:
            part()
        rows, padding, later = self.masks(x, lengths, causal)
        # (In training mode: the fast path of inference is another computation.)
        y = functional_call(module.train(), weights, (x[rows],), {"src_mask": later, "src_key_padding_mask": padding})
        return self.valid(y, x, rows, padding), lengths

    def positional_embedding(self, x, lengths, kind="learned"):
        t, e = x.shape[1:]
        if kind == "learned":
            return x + self.take(t, e), lengths
        angles = torch.arange(t)[:, None] / 10000 ** (torch.arange(e) // 2 * 2 / e)
        return x + torch.where(torch.arange(e) % 2 == 0, angles.sin(), angles.cos()), lengths

    def cleared(self, x, lengths):
        if lengths is None:
            return x
        return x * (torch.arange(x.shape[1])[None] < lengths[:, None])[:, :, None]

    def flatten(self, x, lengths):
        return self.cleared(x, lengths).flatten(1), None

    def reshape(self, x, lengths, *sizes):
        return self.cleared(x, lengths).reshape(x.shape[0], *sizes), None

    def residual(self, x, lengths, layers):
        y, after = self.chain(layers, x, lengths)
        if y.shape != x.shape:
            if x.dim() == 2:
                x, _ = self.dense(x, None, y.shape[-1])
            else:
                stride = [-(-a // b) for a, b in zip(x.shape[1:-1], y.shape[1:-1])]
                x, _ = self.conv(x, lengths, y.shape[-1], 1, stride)
        return x + y, after

    # ---- several inputs

    def concat(self, xs):
        return torch.cat([x for x, _ in xs], -1), xs[0][1]

    def add(self, xs):
        return sum(x for x, _ in xs), xs[0][1]

    def dot(self, xs):
        return (xs[0][0] * xs[1][0]).sum(-1, keepdim=True), xs[0][1]

    # ---- inputs and chains

    def embedding(self, content, width=None):
        """Of ("tokens", ids, vocabulary, lengths) or ("categories", ids, sizes)."""
        if content[0] == "tokens":
            _, ids, vocabulary, lengths = content
            table = self.take(vocabulary, width)
            y = table[ids.clamp(min=0)] * (ids >= 0)[..., None]
            return self.cleared(y, lengths), lengths
        _, ids, sizes = content
        parts = []
        for i, size in enumerate(sizes):
            own = width[i] if isinstance(width, list) else width
            own = own or min(600, round(1.6 * size ** 0.56))
            table = self.take(size, own)
            parts.append(table[ids[:, i].clamp(min=0)] * (ids[:, i] >= 0)[:, None])
        return torch.cat(parts, 1), None

    def one_hot(self, content):
        _, ids, sizes = content
        parts = [(ids[:, i, None] == torch.arange(n)).double() for i, n in enumerate(sizes)]
        return torch.cat(parts, 1), None

    def mixed_dense(self, xs, units, bias=True):
        numbers = torch.cat([x[0] for x in xs if not isinstance(x[0], str)], 1)
        y = numbers @ self.take(numbers.shape[1], units)
        if bias:
            y = y + self.take(units)
        for x in xs:
            if isinstance(x[0], str):
                hot, _ = self.one_hot(x)
                y = y + hot @ self.take(hot.shape[1], units)
        return y, None

    def chain(self, layers, x, lengths):
        state = (x, lengths)
        for spec in layers:
            state = self.layer(spec, [state])
        return state

    def layer(self, spec, xs):
        f = getattr(self, spec["name"])
        args, named = spec.get("positional", []), dict(spec.get("named", []))
        if spec["name"] in ("concat", "add", "dot"):
            return f(xs)
        if len(xs) > 1 and spec["name"] == "dense":
            return self.mixed_dense(xs, *args, **named)
        if len(xs) > 1:
            xs = [self.concat(xs)]
        if spec["name"] in ("embedding", "one_hot"):
            return f(xs[0], *args, **named)
        if spec["name"] == "residual":
            return f(*xs[0], spec["layers"])
        return f(*xs[0], *args, **named)

    def forward(self, case, dense, codes):
        dense, codes = torch.tensor(dense, dtype=torch.float64), torch.tensor(codes)
        contents = []
        for own in case["inputs"]:
            kind, spec = next(iter(own["kind"].items()))
            length = spec.get("length")
            lengths = None if length is None else codes[:, length]
            at = spec.get("offset", 0)
            if kind == "numbers":
                n = int(np.prod(spec["shape"]))
                contents.append((dense[:, at:at + n].reshape(-1, *spec["shape"]), lengths))
            elif kind == "tokens":
                ids = codes[:, at:at + spec["steps"]]
                contents.append(("tokens", ids, spec["vocabulary"], lengths))
            else:
                ids = torch.stack([
                    torch.where(codes[:, c["offset"]] >= 0, codes[:, c["offset"]] - c["first"], -1)
                    for c in spec["columns"]], 1)
                contents.append(("categories", ids, [c["size"] for c in spec["columns"]]))
        ends = []
        for branch in case["branches"]:
            state = contents[branch["input"]]
            for spec in branch["layers"]:
                state = self.layer(spec, [state])
            ends.append(state)
        for spec in case["layers"]:
            ends = [self.layer(spec, ends)]
        if case["outputs"] > 0:
            out = []
            for end in ends:
                if not isinstance(end[0], str) and end[0].dim() > 2:
                    end = self.global_avg_pool(*end) if end[1] is not None else self.flatten(*end)
                out.append(end)
            spec = {"name": "dense", "positional": [case["outputs"]]}
            ends = [self.layer(spec, out)]
        return ends[0][0]


def losses(case, z, label):
    y = torch.tensor(label, dtype=torch.float64)
    if case["loss"] == "softmax":
        return F.cross_entropy(z, y.long(), reduction="none")
    return ((z - y.reshape(z.shape)) ** 2).sum(1)


def layer(name, *positional, layers=None, **named):
    spec = {"name": name}
    if positional:
        spec["positional"] = list(positional)
    if named:
        spec["named"] = [[k, v] for k, v in named.items()]
    if layers:
        spec["layers"] = layers
    return spec


def numbers(*shape, offset=0, length=None):
    own = {"offset": offset, "shape": list(shape)}
    return {"name": "x", "kind": {"numbers": own | ({} if length is None else {"length": length})}}


def tokens(steps, vocabulary, offset=0, length=None):
    own = {"offset": offset, "steps": steps, "vocabulary": vocabulary}
    return {"name": "words", "kind": {"tokens": own | ({} if length is None else {"length": length})}}


def categories(*sizes, offset=0):
    first = [sum(sizes[:i]) for i in range(len(sizes))]
    columns = [{"offset": offset + i, "first": f, "size": n} for i, (f, n) in enumerate(zip(first, sizes))]
    return {"name": "columns", "kind": {"categories": {"columns": columns}}}


def data(case, rows=ROWS):
    """Dense numbers [rows, d], codes [rows, c] and labels of a case."""
    d, columns = 0, {}
    for own in case["inputs"]:
        kind, spec = next(iter(own["kind"].items()))
        steps = 0
        if kind == "numbers":
            d = max(d, spec["offset"] + int(np.prod(spec["shape"])))
            steps = spec["shape"][0]
        elif kind == "tokens":
            steps = spec["steps"]
            for i in range(steps):
                ids = np.arange(rows) * 37 + i * 11 + np.arange(rows) * i
                columns[spec["offset"] + i] = ids % (spec["vocabulary"] + 1)
                columns[spec["offset"] + i][columns[spec["offset"] + i] == spec["vocabulary"]] = -1
        else:
            for i, c in enumerate(spec["columns"]):
                ids = (np.arange(rows) * (3 + i) + i) % (c["size"] + 1)
                columns[c["offset"]] = np.where(ids == c["size"], -1, ids + c["first"])
        if spec.get("length") is not None:
            columns[spec["length"]] = np.array(
                [[steps, 0, 1][i] if i < 3 else (3 * i) % steps + 1 for i in range(rows)])
    codes = np.stack([columns[i] for i in range(len(columns))], 1) if columns else np.zeros((rows, 0), int)
    if case["loss"] == "softmax":
        label = np.arange(rows) % case["classes"]
    else:
        label = value(3, rows * case["classes"])
    return value(2, rows * d).reshape(rows, d), codes, label


def parameters(case, dense, codes):
    """The first parameters: half of `value`, variances positive."""
    flat = value(1, 200_000).astype(np.float32) * np.float32(0.5)
    net = Net(torch.tensor(flat, dtype=torch.float64), True)
    net.forward(case, dense, codes)
    for start, end in net.variances:
        flat[start:end] = np.abs(flat[start:end]) + np.float32(0.5)
    return flat[:net.at].astype(np.float64)


def short(values, digits=6):
    return [float(f"{v:.{digits}g}") for v in np.asarray(values).ravel()]


IMAGE, SEQUENCE, MASKED = numbers(5, 6, 2), numbers(6, 3), numbers(6, 3, length=0)
D = lambda units=4: layer("dense", units)


def case(name, inputs, layers, branches=None, outputs=2, loss="squared", classes=None):
    branches = branches or [{"input": i, "layers": []} for i in range(len(inputs))]
    return {"name": name, "inputs": inputs, "branches": branches, "layers": layers,
            "outputs": outputs, "loss": loss, "classes": classes or outputs}


def cases():
    yield case("dense", [numbers(5)], [D(4), layer("dense", 3, bias=False)])
    yield case("dense on an image", [IMAGE], [D(4)])
    for own in ["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid", "elu", "softmax"]:
        yield case(own, [numbers(5)], [D(6), layer(own)])
    yield case("leaky_relu with a slope", [numbers(5)], [D(6), layer("leaky_relu", 0.3)])
    yield case("elu with alpha", [numbers(5)], [D(6), layer("elu", 0.5)])
    yield case("softmax at the end", [numbers(5)], [D(3), layer("softmax")], outputs=0, classes=3)
    for name, named in {
        "valid": {}, "same": {"padding": "same"}, "stride": {"stride": 2, "padding": "same"},
        "padding": {"padding": 2}, "strides": {"stride": [1, 2], "padding": [0, 1]},
        "dilation": {"dilation": 2, "padding": "same"}, "groups": {"groups": 2, "padding": 1},
        "depthwise": {"groups": 4, "padding": "same"}, "no bias": {"bias": False},
    }.items():
        yield case(f"conv {name}", [IMAGE], [D(4), layer("conv", 4, 3, **named)])
    yield case("conv uneven", [IMAGE], [D(3), layer("conv", 3, [2, 4], padding="same")])
    yield case("conv of one", [IMAGE], [D(3), layer("conv", 4, 1)])
    yield case("conv of one, stride", [IMAGE], [D(3), layer("conv", 2, 1, stride=2)])
    yield case("conv multiplier", [IMAGE], [D(2), layer("conv", 4, 3, groups=2)])
    yield case("conv first", [numbers(6, 6, 1)], [layer("conv", 3, 3, padding="same"), layer("relu")])
    for name, own in {"": SEQUENCE, " masked": MASKED}.items():
        yield case(f"conv 1-d{name}", [own], [D(4), layer("conv", 3, 3, padding="same"), layer("global_avg_pool")])
        yield case(f"conv 1-d stride{name}", [own], [D(4), layer("conv", 3, 2, stride=2), layer("global_avg_pool")])
        yield case(f"conv 1-d even{name}", [own], [D(2), layer("conv", 2, 4, padding="same", stride=2), layer("global_avg_pool")])
        yield case(f"max_pool 1-d{name}", [own], [D(4), layer("max_pool", 3, stride=2, padding=1), layer("global_avg_pool")])
        yield case(f"avg_pool 1-d{name}", [own], [D(4), layer("avg_pool", 2), layer("global_avg_pool")])
        yield case(f"global_max_pool{name}", [own], [D(4), layer("global_max_pool")])
        yield case(f"flatten{name}", [own], [D(4), layer("flatten")])
        yield case(f"reshape{name}", [own], [D(4), layer("reshape", 2, 12), layer("dense", 2)])
        yield case(f"batch_norm of a sequence{name}", [own], [D(4), layer("batch_norm"), layer("tanh"), layer("global_avg_pool")])
        yield case(f"layer_norm{name}", [own], [D(4), layer("layer_norm"), layer("global_avg_pool")])
        for cell in ["lstm", "gru"]:
            yield case(f"{cell}{name}", [own], [D(2), layer(cell, 3)])
            yield case(f"{cell} both ways{name}", [own], [D(2), layer(cell, 2, bidirectional=True)])
            yield case(f"{cell} all{name}", [own], [D(2), layer(cell, 2, bidirectional=True, states="all"), layer("global_avg_pool")])
        yield case(f"attention{name}", [own], [D(4), layer("attention", 2), layer("global_avg_pool")])
        yield case(f"attention causal{name}", [own], [D(4), layer("attention", 2, causal=True), layer("global_avg_pool")])
        yield case(f"transformer{name}", [own], [D(4), layer("transformer", 2, 5, dropout=0), layer("global_avg_pool")])
        yield case(f"transformer pre{name}", [own], [D(4), layer("transformer", 2, 5, dropout=0, norm="pre", activation="gelu", causal=True), layer("global_avg_pool")])
        yield case(f"positional_embedding{name}", [own], [D(4), layer("positional_embedding"), layer("tanh"), layer("global_avg_pool")])
        yield case(f"sinusoidal{name}", [own], [D(4), layer("positional_embedding", "sinusoidal"), layer("tanh"), layer("global_avg_pool")])
    yield case("max_pool", [IMAGE], [D(3), layer("max_pool", 2)])
    yield case("max_pool padding", [IMAGE], [D(3), layer("max_pool", 3, stride=2, padding=1)])
    yield case("avg_pool", [IMAGE], [D(3), layer("avg_pool", 3, stride=1, padding=1)])
    yield case("global_max_pool of an image", [IMAGE], [D(3), layer("global_max_pool")])
    yield case("global_avg_pool of an image", [IMAGE], [D(3), layer("global_avg_pool")])
    yield case("batch_norm", [numbers(5)], [D(4), layer("batch_norm")])
    yield case("batch_norm of an image", [IMAGE], [D(3), layer("batch_norm", momentum=0.3), layer("relu")])
    yield case("batch_norm twice", [IMAGE], [layer("conv", 3, 3), layer("batch_norm"), layer("relu"), layer("conv", 2, 2), layer("batch_norm", epsilon=0.01)])
    block = [layer("conv", 3, 3, padding="same"), layer("batch_norm"), layer("relu")]
    yield case("residual", [IMAGE], [D(3), layer("residual", layers=block), layer("relu")])
    yield case("residual projected", [IMAGE], [D(2), layer("residual", layers=[layer("conv", 3, 3, padding="same", stride=2), layer("tanh")])])
    yield case("residual of vectors", [numbers(5)], [D(3), layer("residual", layers=[D(4), layer("gelu")])])
    yield case("embedding", [tokens(5, 6)], [layer("embedding", 3), layer("tanh"), layer("flatten")])
    yield case("embedding masked", [tokens(5, 6, offset=1, length=0)], [layer("embedding", 3), layer("tanh"), layer("global_avg_pool")])
    yield case("embedding of columns", [categories(4, 3)], [layer("embedding", [3, 2]), D(3)])
    yield case("embedding of columns, own widths", [categories(4, 3)], [layer("embedding"), layer("tanh")])
    yield case("one_hot", [categories(4, 3)], [layer("one_hot"), D(2)])
    yield case("dense of columns", [numbers(4), categories(4, 3)], [D(3), layer("tanh")])
    two = [{"input": 0, "layers": [D(3), layer("tanh")]}, {"input": 1, "layers": [layer("conv", 3, 2), layer("global_avg_pool")]}]
    for joint in ["concat", "add", "dot"]:
        yield case(joint, [numbers(4), numbers(4, 3, offset=4)], [layer(joint)], two)
    yield case("concat before", [numbers(4), numbers(4, 3, offset=4)], [layer("tanh"), D(2)], two)
    yield case("softmax loss", [numbers(4)], [D(5), layer("relu")], outputs=3, loss="softmax")


def run(own):
    dense, codes, label = data(own)
    start = parameters(own, dense, codes)
    weight = torch.tensor(0.75 + 0.5 * value(4, ROWS), dtype=torch.float64)
    flat = torch.tensor(start, requires_grad=True)
    net = Net(flat, True)
    z = net.forward(own, dense, codes)
    loss = (weight * losses(own, z, label)).sum()
    loss.backward()
    after = torch.tensor(start)
    for at, values in net.statistics.items():
        after[at:at + len(values)] = values
    with torch.no_grad():
        scores = Net(after, False).forward(own, dense, codes)
    return own | {
        "codes": codes.ravel().tolist(), "label": [float(v) for v in label],
        "loss_sum": float(f"{loss.item():.9g}"), "gradient": short(flat.grad),
        "statistics": short(torch.cat([torch.zeros(0), *net.statistics.values()])),
        "scores": short(scores.detach()),
    }


if __name__ == "__main__":
    found = [run(own) for own in cases()]
    lines = ",\n".join(json.dumps(own, separators=(",", ":")) for own in found)
    Path(__file__).with_suffix(".json").write_text("[\n" + lines + "\n]\n")
    print(len(found), "cases")
