"""The loss against a plain per-object float64 loop, its gradient against finite differences, and its edge cases."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panembed.losses import discriminative
from panembed.losses.discriminative import discriminative_loss


def plain_loss(embeddings, instance, semantic=None, thing_ids=None, dv=0.5, dd=1.5, alpha=1.0, beta=1.0, gamma=0.001):
    """Zachow 2022, Eq. 3.2-3.5, object by object and pixel by pixel, as the text says it."""
    total = embeddings.new_zeros(())
    for b in range(len(embeddings)):
        semantic_b = torch.zeros_like(instance[b]) if semantic is None else semantic[b]
        classes = set(semantic_b.flatten().tolist()) - {255}
        if thing_ids is not None:
            classes &= set(thing_ids)
        for category in classes:
            inside = semantic_b == category
            ids = sorted(set(instance[b][inside].tolist()) - {0})
            pixels = [embeddings[b][:, inside & (instance[b] == i)] for i in ids]
            means = [p.mean(1) for p in pixels]
            if not ids:
                continue
            pull = sum(
                sum(torch.relu((mean - p[:, i]).norm() - dv) ** 2 for i in range(p.shape[1])) / p.shape[1]
                for mean, p in zip(means, pixels)
            )
            total = total + alpha * pull / len(ids) + gamma * sum(m.norm() for m in means) / len(ids)
            if len(ids) > 1:
                push = sum(
                    torch.relu(2 * dd - (means[a] - means[c]).norm()) ** 2
                    for a in range(len(ids))
                    for c in range(len(ids))
                    if a != c
                )
                total = total + beta * push / (len(ids) * (len(ids) - 1))
    return total / len(embeddings)


def random_case(seed, batch=2, dims=3, size=6, num_ids=4, num_classes=3):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(batch, dims, size, size, generator=generator, dtype=torch.float64)
    instance = torch.randint(0, num_ids + 1, (batch, size, size), generator=generator)
    semantic = torch.randint(0, num_classes, (batch, size, size), generator=generator)
    semantic[torch.rand(semantic.shape, generator=generator) < 0.1] = 255
    return embeddings, instance, semantic


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), num_ids=st.integers(0, 6), dims=st.integers(1, 5))
def test_value_and_gradient_equal_the_plain_loop(seed, num_ids, dims):
    embeddings, instance, semantic = random_case(seed, dims=dims, num_ids=num_ids)
    for labels in ({}, {"semantic": semantic}, {"semantic": semantic, "thing_ids": [1, 2]}):
        ours, plain = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
        a = discriminative_loss(ours, instance, **labels)
        b = plain_loss(plain, instance, **labels)
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)
        a.backward()
        if b.requires_grad:
            b.backward()
        expected = torch.zeros_like(embeddings) if plain.grad is None else plain.grad
        torch.testing.assert_close(ours.grad, expected, atol=1e-9, rtol=1e-9)


def test_weights_and_margins_reach_their_terms():
    embeddings, instance, _ = random_case(3)
    for extra in ({"alpha": 2.0}, {"beta": 0.0}, {"gamma": 0.5}):
        torch.testing.assert_close(
            discriminative_loss(embeddings, instance, delta_var=0.2, delta_dist=0.7, **extra),
            plain_loss(embeddings, instance, dv=0.2, dd=0.7, **extra),
        )


def test_float32_agrees_with_float64():
    embeddings, instance, semantic = random_case(7, dims=16, size=32, num_ids=20)
    exact = plain_loss(embeddings, instance, semantic)
    got = discriminative_loss(embeddings.float(), instance, semantic=semantic)
    assert got.dtype == torch.float32
    assert abs(float(got) - float(exact)) <= 1e-6 * float(exact)


def test_float32_stays_exact_with_large_objects():
    """40,000 pixels an object, far from the origin: one long float32 sum per object is ten times less exact."""
    generator = torch.Generator().manual_seed(1)
    embeddings = 30 + torch.randn(1, 4, 200, 400, generator=generator, dtype=torch.float64)
    embeddings = embeddings.float().double()  # the same numbers for both
    instance = (1 + (torch.arange(400) >= 200)).expand(1, 200, 400)
    exact, got = embeddings.clone().requires_grad_(), embeddings.float().requires_grad_()
    a, b = discriminative_loss(exact, instance), discriminative_loss(got, instance)
    assert abs(b.item() - a.item()) <= 2e-5 * a.item()
    a.backward()
    b.backward()
    assert float((got.grad - exact.grad).abs().max()) <= 3e-3 * float(exact.grad.abs().max())


@pytest.mark.parametrize("num_ids", [1, 2, 5])
def test_gradcheck(num_ids):
    embeddings, instance, semantic = random_case(11, num_ids=num_ids)
    embeddings.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: discriminative_loss(x, instance, semantic=semantic, gamma=0.1), embeddings
    )


def test_gradcheck_with_all_pixels_labelled():
    embeddings, instance, _ = random_case(12)
    embeddings.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: discriminative_loss(x, instance + 1), embeddings)


def test_the_same_input_gives_the_same_bits():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2, 16, 128, 128, generator=generator)
    instance = torch.randint(0, 9, (2, 128, 128), generator=generator)
    found = []
    for _ in range(3):
        x = embeddings.clone().requires_grad_()
        loss = discriminative_loss(x, instance)
        loss.backward()
        found.append((loss, x.grad))
    for loss, gradient in found[1:]:
        assert torch.equal(loss, found[0][0])
        assert torch.equal(gradient, found[0][1])


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), num_groups=st.sampled_from([1, 2, 7, 300, 40_000]), dims=st.integers(1, 17))
def test_group_sums_equal_index_add(seed, num_groups, dims):
    generator = torch.Generator().manual_seed(seed)
    group = torch.cat([torch.arange(num_groups), torch.randint(0, num_groups, (1000,), generator=generator)])
    group = group[torch.randperm(len(group), generator=generator)]
    rows = torch.randn(len(group), dims, generator=generator, dtype=torch.float64)
    weights = torch.randn(len(group), generator=generator, dtype=torch.float64)
    sum_groups = discriminative._GroupSums(group, torch.bincount(group))
    plain = rows.new_zeros(num_groups, dims)
    torch.testing.assert_close(sum_groups(rows), plain.index_add(0, group, rows))
    torch.testing.assert_close(sum_groups(rows, weights), plain.index_add(0, group, rows * weights[:, None]))


def test_devices_without_embedding_bag_find_the_same(monkeypatch):
    embeddings, instance, semantic = random_case(8, size=12)
    a, b = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    expected = discriminative_loss(a, instance, semantic=semantic)
    monkeypatch.setattr(discriminative, "_EMBEDDING_BAG_DEVICES", ())
    monkeypatch.setattr(torch.nn.functional, "embedding_bag", None)
    got = discriminative_loss(b, instance, semantic=semantic)
    torch.testing.assert_close(got, expected)
    expected.backward()
    got.backward()
    torch.testing.assert_close(b.grad, a.grad)


@pytest.mark.slow  # importing the compiler takes seconds
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # the compiler looks at it
def test_inside_a_compiled_function():
    embeddings, instance, semantic = random_case(9, size=12)

    def scaled(x, instance, semantic):
        return 2 * discriminative_loss(3 * x, instance, semantic=semantic)

    a, b = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    expected = scaled(a, instance, semantic)
    got = torch.compile(scaled, backend="aot_eager")(b, instance, semantic)
    torch.testing.assert_close(got, expected)
    expected.backward()
    got.backward()
    torch.testing.assert_close(b.grad, a.grad)


def test_no_objects_is_exactly_zero_with_zero_gradient():
    embeddings = torch.randn(2, 4, 5, 5, requires_grad=True)
    loss = discriminative_loss(embeddings, torch.zeros(2, 5, 5, dtype=torch.int32))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def test_an_image_without_objects_counts_as_zero():
    embeddings, instance, _ = random_case(5)
    instance[1] = 0
    alone = discriminative_loss(embeddings[:1], instance[:1])
    torch.testing.assert_close(discriminative_loss(embeddings, instance), alone / 2)


def test_one_object_is_not_pushed():
    embeddings = torch.zeros(1, 2, 2, 2, requires_grad=True)
    loss = discriminative_loss(embeddings, torch.ones(1, 2, 2, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def test_coinciding_means_give_the_full_push_and_a_finite_gradient():
    embeddings = torch.zeros(1, 2, 1, 4, requires_grad=True)
    loss = discriminative_loss(embeddings, torch.tensor([[[1, 1, 2, 3]]]))
    loss.backward()
    assert loss.item() == pytest.approx((2 * 1.5) ** 2)
    assert torch.isfinite(embeddings.grad).all()


def test_pull_averages_over_objects_not_pixels():
    """A small object weighs as much as a large one."""
    embeddings = torch.zeros(1, 1, 1, 102)
    embeddings[0, 0, 0, 100:] = torch.tensor([10.0, 14.0])  # two pixels, 2 from their mean
    instance = torch.ones(1, 1, 102, dtype=torch.int64)
    instance[..., 100:] = 2
    assert float(discriminative_loss(embeddings, instance, gamma=0.0)) == pytest.approx((2 - 0.5) ** 2 / 2)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_ids_are_names_only(seed):
    embeddings, instance, semantic = random_case(seed)
    names = torch.tensor([0, 70_001, 5, 2**62 + 123_456_789, 9])
    torch.testing.assert_close(
        discriminative_loss(embeddings, names[instance], semantic=semantic),
        discriminative_loss(embeddings, instance, semantic=semantic),
    )


@pytest.mark.parametrize("things", [None, [0, 2], [1]])
def test_classes_are_names_only_and_below_0_is_none(things):
    embeddings, instance, semantic = random_case(13)
    options = {} if things is None else {"thing_ids": things}
    expected = discriminative_loss(embeddings, instance, semantic=semantic, **options)
    below = torch.where(semantic == 255, -1, semantic)
    torch.testing.assert_close(discriminative_loss(embeddings, instance, semantic=below, **options), expected)
    names = torch.tensor([3, 130, 254])
    renamed = torch.where(semantic == 255, 255, names[semantic.clamp_max(2)])
    options = {} if things is None else {"thing_ids": names[things].tolist()}
    torch.testing.assert_close(discriminative_loss(embeddings, instance, semantic=renamed, **options), expected)


def test_memory_layout_does_not_matter():
    embeddings, instance, _ = random_case(2, dims=8, size=16)
    a = embeddings.clone().requires_grad_()
    b = embeddings.clone().contiguous(memory_format=torch.channels_last).requires_grad_()
    discriminative_loss(a, instance).backward()
    discriminative_loss(b, instance).backward()
    torch.testing.assert_close(a.grad, b.grad)
    # Channels out of the middle of a larger tensor, in either layout.
    for memory_format in (torch.contiguous_format, torch.channels_last):
        wide = torch.randn(2, 12, 16, 16, dtype=torch.float64).contiguous(memory_format=memory_format)
        wide[:, 3:11] = embeddings
        c = wide.requires_grad_()[:, 3:11]
        discriminative_loss(c, instance).backward()
        torch.testing.assert_close(wide.grad[:, 3:11], a.grad)
        assert not wide.grad[:, :3].any()


def test_under_autocast_loss_and_gradient_stay_float32():
    embeddings, instance, _ = random_case(4, dims=16, size=32)
    inside, outside = (embeddings.float().requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = discriminative_loss(inside, instance)
        loss.backward()
    expected = discriminative_loss(outside, instance)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    assert torch.equal(inside.grad, outside.grad)
    half = embeddings.bfloat16().requires_grad_()
    loss = discriminative_loss(half, instance)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, torch.zeros(1, 3, 4, dtype=torch.int64)), "instance"),
        (({"thing_ids": [1]}, torch.zeros(1, 4, 4, dtype=torch.int64)), "semantic"),
        (({"semantic": torch.zeros(2, 4, 4)}, torch.zeros(1, 4, 4, dtype=torch.int64)), "semantic"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, message):
    options, instance = arguments
    with pytest.raises(ValueError, match=message):
        discriminative_loss(torch.zeros(1, 2, 4, 4), instance, **options)
