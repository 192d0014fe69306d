"""Per-sample inner products and norms of weight gradients, from a layer's inputs and output gradients.

Pure functions. B samples, R rows (tokens) each, K directions. For `y = x W'` the gradient of sample b is
`G_b = sum_r d_br x_br'`, so that `<G_b, V> = sum_r d_br . (V x_br)` needs no gradient in memory (docs/architecture.md).
Inner products are accumulated in float32 or wider.
"""

import torch

TILE = 1 << 24  # elements of per-sample gradients, or of directions made wider, held at once


def linear_products(
    x: torch.Tensor, d: torch.Tensor, v: torch.Tensor, norms: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scores [B, K] and squared gradient norms [B] (or None) of a weight [out, in].

    x: inputs [B, R, in]; d: output gradients [B, R, out]; v: directions [K, out, in].
    """
    if forms_gradients(x.shape[1], x.shape[2], d.shape[2], v.shape[0], norms):
        return _by_gradients(x, d, v, norms)
    scores = torch.stack([_streamed(x, d, direction) for direction in v], 1)
    return scores, _gram_norms(x, d) if norms else None


def forms_gradients(rows: int, width_in: int, width_out: int, count: int, norms: bool) -> bool:
    """Whether fewer multiplications are needed with per-sample gradients of a weight [out, in] than without."""
    form = width_in * width_out * (rows + count)
    stream = rows * width_in * width_out * count
    gram = rows * rows * (width_in + width_out)
    return form <= stream + (gram if norms else 0)


def _streamed(x: torch.Tensor, d: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    if v.shape[0] <= v.shape[1]:
        return _dots(x @ v.T, d)
    return _dots(d @ v, x)


def _by_gradients(
    x: torch.Tensor, d: torch.Tensor, v: torch.Tensor, norms: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    size = max(1, TILE // (x.shape[2] * d.shape[2]))
    scores, squares = [], []
    for xs, ds in zip(torch.split(x, size), torch.split(d, size), strict=True):
        products = gradient_products(wide(ds.transpose(1, 2) @ xs), v, norms)
        scores.append(products[0])
        if products[1] is not None:
            squares.append(products[1])
    return torch.cat(scores), torch.cat(squares) if norms else None


def gradient_products(
    gradients: torch.Tensor, v: torch.Tensor, norms: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The same for per-sample gradients [b, *shape] in memory, and directions [K, *shape]."""
    flat = gradients.flatten(1)
    blocks = torch.split(v.flatten(1), max(1, TILE // v[0].numel()))
    scores = torch.cat([flat @ block.to(flat.dtype).T for block in blocks], 1)
    return scores, flat.square().sum(1) if norms else None


def _gram_norms(x: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    return (_gram(x) * _gram(d)).sum((1, 2))


def _gram(t: torch.Tensor) -> torch.Tensor:
    """[B, R, R]; squares need the range of float32."""
    t = t.float() if t.dtype == torch.float16 else t
    return wide(t @ t.transpose(1, 2))


def embedding_products(
    ids: torch.Tensor, d: torch.Tensor, v: torch.Tensor, norms: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The same for an embedding [vocabulary, width]: ids [B, R]; d [B, R, width]; v [K, vocabulary, width]."""
    scores = torch.stack([_dots(direction[ids], d) for direction in v], 1)
    if not norms:
        return scores, None
    same = ids[:, :, None] == ids[:, None, :]
    return scores, (_gram(d) * same).sum((1, 2))


def rows_met(ids: torch.Tensor, hidden: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Rows of an output head's gradients that tokens ids [B, R] of the sample own: [B, R, width].

    hidden [B, N, width], p [B, N, vocabulary]: its inputs and output gradients. Where the embedding is the same
    weight, with output gradients d [B, R, width], the squared norm of a sample's gradient has 2 <rows, d> beyond those
    of the two uses.
    """
    met = p.gather(2, ids[:, None, :].expand(-1, p.shape[1], -1))
    return wide(met).transpose(1, 2) @ wide(hidden)


def elementwise_products(
    x: torch.Tensor, d: torch.Tensor, v: torch.Tensor, norms: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The same for a weight [width] that multiplies x elementwise (norms; a bias has x = 1): x, d [B, R, width]."""
    gradients = (wide(x) * wide(d)).sum(1)
    return gradients @ wide(v).T, gradients.square().sum(1) if norms else None


def _dots(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Sum of products over all but the first dimension: [B]."""
    products: torch.Tensor = torch.linalg.vecdot(
        wide(a).flatten(1), wide(b).flatten(1)
    )  # einsum takes ten times longer
    return products


def wide(t: torch.Tensor) -> torch.Tensor:
    return t if t.dtype in (torch.float32, torch.float64) else t.float()
