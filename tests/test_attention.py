"""RoPE is relative, the masks are the paper's, and the cache keeps what its policy says."""

import pytest
import torch

from sfbench.reference.attention import KVCache, Rope, Seen, attend, rotate
from sfbench.reference.masks import block_causal, clean_and_noisy, one_ahead


def test_rope_depends_on_relative_time_only() -> None:
    rope = Rope(12, (2, 2), 100.0)
    q, k = torch.randn(2, 1, 4, 1, 12, dtype=torch.float64, generator=torch.manual_seed(0))

    def scores(i: int, j: int) -> torch.Tensor:
        return torch.einsum(
            "btnd,bsnd->bts", rotate(q, rope.turns([i], q)), rotate(k, rope.turns([j], k))
        )

    torch.testing.assert_close(scores(5, 3), scores(105, 103))
    assert not torch.allclose(scores(5, 3), scores(5, 4))


def test_rope_tells_rows_from_columns() -> None:
    first, right, below, _ = Rope(12, (2, 2), 100.0).turns([0], torch.zeros(1))
    assert not torch.equal(first, right) and not torch.equal(right, below)


def test_block_causal_by_hand() -> None:
    seen = block_causal(6, 2).int().tolist()
    assert seen == [[1, 1, 0, 0, 0, 0]] * 2 + [[1, 1, 1, 1, 0, 0]] * 2 + [[1] * 6] * 2


def test_window_and_sink_by_hand() -> None:
    assert block_causal(6, 2, window=4).int().tolist()[4] == [0, 0, 1, 1, 1, 1]
    assert block_causal(8, 2, window=4, sink=2).int().tolist()[6] == [1, 1, 0, 0, 1, 1, 1, 1]


def test_teacher_forcing_mask_by_hand() -> None:
    rows = clean_and_noisy(4, 2).int().tolist()
    assert rows[2] == [1, 1, 1, 1, 0, 0, 0, 0]  # clean: block-causal among the clean
    assert rows[4] == [0, 0, 0, 0, 1, 1, 0, 0]  # first noisy chunk: itself only
    assert rows[6] == [1, 1, 0, 0, 0, 0, 1, 1]  # second: clean past and itself, not its own clean


def test_one_ahead_by_hand() -> None:
    assert one_ahead(0, 1, 2, 4).int().tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 1]]
    rows = one_ahead(4, 2, 2, 4).int().tolist()  # two of the four held are evicted by then
    assert rows == [[1, 1, 1, 1, 1, 1, 0, 0]] * 2 + [[0, 0, 1, 1, 1, 1, 1, 1]] * 2
    assert one_ahead(0, 2, 2, 0).int().tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2


def item(value: float, frames: int, tokens: int = 2) -> list[torch.Tensor]:
    return [torch.full((1, frames * tokens, 1, 4), value)]


@pytest.mark.parametrize(
    ("policy", "held"),
    [
        (dict(capacity=12), [0, 1, 2, 3, 4, 5, 6, 7]),
        (dict(window=6), [4, 5, 6, 7]),
        (dict(window=4, sink=2), [0, 1, 6, 7]),
        (dict(window=2, sink=2), [0, 1]),  # a chunk sees itself and the sinks
        (dict(window=2, sink=4), [0, 1, 2, 3]),
        (dict(window=2, sink=3), [0, 1, 2]),  # not a whole chunk
        (dict(window=2), []),
    ],
)
def test_policies_hold_the_right_frames(policy: dict[str, int], held: list[int]) -> None:
    cache = KVCache(layers=1, tokens=2, chunk=2, **policy)
    for first in range(0, 8, 2):
        cache.write([first, first + 1], item(first, 2), item(-first, 2))
    assert cache.frames == held
    read = cache.read(0)
    if not held:
        assert read is None
        return
    assert read is not None
    keys, values = read
    assert keys[0, ::2, 0, 0].tolist() == [f - f % 2 for f in held]
    assert torch.equal(values, -keys)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("sink", [0, 2, 3])
def test_a_chunk_sees_sinks_just_before_the_others_unless_absolute(
    sink: int, absolute: bool
) -> None:
    """Scores are those of plain keys, roped anew where the policy says."""
    tokens, rope = 4, Rope(12, (2, 2), 100.0)
    cache = KVCache(layers=1, tokens=tokens, chunk=2, window=4, sink=sink, absolute=absolute)
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(1, 12 * tokens, 2, 12, dtype=torch.float64, generator=generator)
    query = torch.randn(1, 2 * tokens, 2, 12, dtype=torch.float64, generator=generator)
    for first in range(0, 12, 2):
        new, own = range(first, first + 2), slice(first * tokens, (first + 2) * tokens)
        held = [f for f in range(first) if f < sink or f >= first - 2]
        assert cache.frames == held
        read = cache.read(0, cache.turn(new, rope, query))
        if held:
            assert read is not None
            where = held if absolute else range(first - len(held), first)
            turns = rope.turns(where, query)
            keys = plain.view(1, 12, tokens, 2, 12)[:, held].flatten(1, 2)
            q = rotate(query, rope.turns(new, query))
            scores, expected = (
                torch.einsum("btnd,bsnd->bnts", q, k) for k in (read[0], rotate(keys, turns))
            )
            torch.testing.assert_close(scores, expected)
        written = rotate(plain[:, own], rope.turns(new, query))
        cache.write(new, [written], [written])


def test_a_full_cache_says_so() -> None:
    cache = KVCache(layers=1, tokens=2, chunk=2, capacity=2)
    cache.write([0, 1], item(0, 2), item(0, 2))
    with pytest.raises(ValueError, match="holds 2 frames and is full"):
        cache.write([2, 3], item(0, 2), item(0, 2))


def test_a_long_context_keeps_its_end() -> None:
    cache = KVCache(layers=1, tokens=2, chunk=2, window=6)
    keys = [torch.arange(16.0).view(1, 16, 1, 1)]
    cache.write(list(range(8)), keys, keys)
    assert cache.frames == [4, 5, 6, 7]
    read = cache.read(0)
    assert read is not None and read[0].flatten().tolist() == list(range(8, 16))


# --- masks without wasted blocks ------------------------------------------------------------------


MASKS = {
    "causal": block_causal(6, 2),
    "sink": block_causal(8, 2, window=4, sink=2),
    "teacher forcing": clean_and_noisy(6, 2, window=4),
    "alone": clean_and_noisy(5, 2, alone=True),
}


def queries(frames: torch.Tensor, device: str = "cpu") -> list[torch.Tensor]:
    shape, g = (2, frames.shape[0] * 3, 2, 16), torch.Generator().manual_seed(0)
    three = [torch.randn(shape, generator=g) for _ in range(3)]
    return [x.to(device).requires_grad_(True) for x in three]


def agree(how: str, frames: torch.Tensor, device: str) -> None:
    q, k, v = queries(frames, device)
    out, dense = (attend(q, k, v, Seen(frames, 3, way)) for way in (how, "dense"))
    torch.testing.assert_close(out, dense, rtol=1e-4, atol=1e-5)
    toward = torch.randn_like(out)
    gradients = (torch.autograd.grad(x, (q, k, v), toward) for x in (out, dense))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MASKS)
def test_blocks_compute_what_the_mask_says(name: str) -> None:
    """Values and gradients are those of one call under the token mask."""
    agree("blocks", MASKS[name], "cpu")


@pytest.mark.filterwarnings("ignore:.*torch.compile")
@pytest.mark.parametrize("name", MASKS)
def test_the_flexible_kernel_sees_the_same(name: str) -> None:
    q, k, v = (x.detach() for x in queries(MASKS[name]))  # on a CPU it has no backward pass
    out, dense = (attend(q, k, v, Seen(MASKS[name], 3, way)) for way in ("flex", "dense"))
    torch.testing.assert_close(out, dense, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["blocks", "flex"])
@pytest.mark.parametrize("name", MASKS)
def test_on_a_gpu_the_gradients_agree_too(name: str, how: str) -> None:
    agree(how, MASKS[name], "cuda")


def test_no_block_is_wasted() -> None:
    """What is computed is what is seen, not a key more."""
    frames = clean_and_noisy(12, 2, window=10)
    groups = Seen(frames, 1).groups
    asked = sum((q.stop - q.start) * sum(s.stop - s.start for s in seen) for q, seen in groups)
    assert asked == int(frames.sum()) < 0.3 * frames.numel()
