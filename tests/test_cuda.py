"""On a GPU: every attention backend, every network and whole training steps, against float64.

Skipped where there is none.
"""

from __future__ import annotations

import copy

import pytest
import torch

from lgatr import Packing
from lgatr.attention import (
    AttentionSpec,
    Causal,
    backends,
    merge_attentions,
    partial_attention,
    prepare_attention,
)
from lgatr.attention.pattern.masks import MaskMod
from support import attention_reference as reference
from support import networks
from support.attention_cases import (
    MASKS,
    SCORES,
    agree,
    compare_with_definition,
    packed_spec,
    storages,
    tensors,
    usable,
)
from support.attention_reference import HEADS, KEYS, LENGTHS
from support.lorentz import random_transformation, transform
from support.taggers import batch as events_batch
from support.taggers import build as build_tagger

if not torch.cuda.is_available():
    pytest.skip("no GPU here", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore")  # of compilers and libraries, which vary

CUDA = torch.device("cuda")
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# A compiled kernel takes seconds for each pattern: every mask and every score once.
ONCE = [(mask, "none") for mask in MASKS] + [("none", s) for s in SCORES if s != "none"]
RAGGED = (1, 2, 200, 17, 17, 3, 64, 129)
HALF = {torch.bfloat16: 3e-2, torch.float16: 4e-3}


@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("mask", MASKS)
def test_native_equals_the_definition(mask, score, cross, dtype):
    compare_with_definition("native", mask, score, cross, dtype, "cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", sorted(set(backends()) - {"native", "flex"}))
def test_kernels_equal_the_definition(name, mask, cross, dtype):
    compare_with_definition(name, mask, "none", cross, dtype, "cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("mask", "score"), ONCE)
def test_flex_equals_the_definition(mask, score, dtype):
    compare_with_definition("flex", mask, score, False, dtype, "cuda")


@pytest.mark.parametrize("mask", ["none", "causal", "longformer"])
def test_flex_across_sequences(mask):
    compare_with_definition("flex", mask, "none", True, torch.float32, "cuda")


@pytest.mark.parametrize("causal", [False, True], ids=["", "causal"])
@pytest.mark.parametrize("kv_heads", [HEADS, 1], ids=["", "multi-query"])
@pytest.mark.parametrize("width", [5, 36, 72, 128])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", backends())
def test_ragged_events(name, dtype, width, kv_heads, causal):
    """Outputs and gradients beside all scores at once, and no event sees another."""
    packing = Packing.from_lengths(RAGGED)
    spec = AttentionSpec(packing=packing, mask=Causal() if causal else None)
    usable(name, spec, dtype, "cuda")
    generator = torch.Generator().manual_seed(1)
    heads = (HEADS, kv_heads, kv_heads)
    values = [
        torch.randn(sum(RAGGED), h, width, generator=generator).to(CUDA, dtype) for h in heads
    ]
    probe = torch.randn(sum(RAGGED), HEADS, width, generator=generator).to(CUDA, dtype)
    event = packing.batch_index().to(CUDA)
    allowed = event[:, None] == event[None]
    if causal:
        allowed &= torch.ones_like(allowed).tril()
    attend = prepare_attention(CUDA, dtype, spec=spec, backend=name)
    assert attend.backend.name == name
    exact = [x.double().requires_grad_() for x in values]
    values = [x.requires_grad_() for x in values]
    theirs = reference.attention(*exact, allowed, torch.zeros((), device=CUDA))[0]
    ours = attend(*values)
    pairs = [(ours, theirs)] + list(
        zip(
            torch.autograd.grad(ours, values, probe),
            torch.autograd.grad(theirs, exact, probe.double()),
            strict=True,
        )
    )
    limit = {torch.float64: 1e-11, torch.float32: 2e-5, **HALF}[dtype]
    for a, b in pairs:
        assert float((a - b).norm() / b.norm()) <= limit
    with torch.no_grad():
        values = [x.detach() for x in values]
        changed = [x.clone() for x in values]
        for x in changed:
            x[3:203] = torch.randn_like(x[3:203])
        before, after = attend(*values), attend(*changed)
    assert torch.equal(before[:3], after[:3]) and torch.equal(before[203:], after[203:])
    assert not torch.equal(before[3:203], after[3:203])


@pytest.mark.parametrize("mask", ["none", "causal_bottom_right", "window_causal_bottom_right"])
@pytest.mark.parametrize("kind", ["padded", "gappy", "paged"])
@pytest.mark.parametrize("name", ["native", "xformers", "flex"])
def test_keys_in_a_storage(name, kind, mask):
    storage, places = storages()[kind]
    spec = packed_spec(mask, keys=storage)
    dtype = torch.bfloat16 if name == "xformers" else torch.float32
    usable(name, spec, dtype, "cuda", training=False)
    q = torch.randn(sum(LENGTHS), HEADS, 8)
    k, v = torch.randn(2, 55, HEADS, 8)
    live = torch.tensor([p for event in places for p in event])
    allowed, bias = reference.tables(mask, "none", LENGTHS, KEYS)
    theirs = reference.attention(q, k[live], v[live], allowed, bias)[0]
    with torch.no_grad():
        attend = prepare_attention(CUDA, dtype, spec=spec, backend=name)
        agree(attend(*(x.to(CUDA, dtype) for x in (q, k, v))).cpu(), theirs, dtype)


@pytest.mark.parametrize("name", ["native", "xformers", "flex"])
def test_parts_merge_to_the_whole(name):
    dtype = torch.bfloat16 if name == "xformers" else torch.float32
    values = [x.to(CUDA) for x in tensors(LENGTHS, KEYS, dtype)]
    packing, keys = Packing.from_lengths(LENGTHS), Packing.from_lengths(KEYS)
    masks = (
        [None]
        if name == "xformers"
        else [MaskMod(lambda b, h, q, k, i=i: k % 2 == i) for i in (0, 1)]
    )
    with torch.no_grad():
        parts = [
            partial_attention(*values, packing=packing, kv_packing=keys, mask=m, backend=name)
            for m in masks
        ]
        out, lse = merge_attentions(*zip(*parts, strict=True))
    tables = reference.tables("none", "none", LENGTHS, KEYS)
    theirs = reference.attention(*(x.cpu() for x in values), *tables)
    agree(out.cpu(), theirs[0], dtype)
    agree(lse.cpu(), theirs[1], dtype)


@pytest.mark.parametrize("name", ["native", "xformers", "flex"])
def test_dropout(name):
    """The mean over many draws is attention without dropout; a quarter is dropped."""
    n = 40
    q, k = (torch.randn(n, 1, n, device=CUDA) / 3 for _ in range(2))
    v = torch.eye(n, device=CUDA).unsqueeze(1)
    packing = Packing.from_lengths([n])
    options = {"packing": packing, "backend": name, "scale": 0.5}
    with torch.no_grad():
        exact = prepare_attention(CUDA, q.dtype, **options)(q, k, v)[:, 0].double()
        attend = prepare_attention(CUDA, q.dtype, **options, dropout_p=0.25)
        draws = torch.stack([attend(q, k, v)[:, 0].double() for _ in range(400)])
    rate = (draws == 0).double().mean()
    assert abs(rate - 0.25) < 4 * (0.25 * 0.75 / draws.numel()) ** 0.5
    spread = exact * (0.25 / 0.75 / 400) ** 0.5
    assert (((draws.mean(0) - exact) / spread).abs() < 6).all()


def deviation(a, b):
    """Largest difference, relative to the largest entry where that exceeds one."""
    return float((a.double().cpu() - b).abs().max() / b.abs().max().clamp(min=1.0))


@pytest.mark.parametrize("options", [{}, {"checkpoint_blocks": True}], ids=["", "checkpointed"])
@pytest.mark.parametrize("name", ["native", "xformers", "flex", "auto"])
@pytest.mark.parametrize("kind", networks.KINDS)
def test_networks_equal_themselves_in_float64(kind, name, options):
    lengths, cond = (7, 1, 40), (3, 5, 9)
    tokens = (sum(cond),) if kind in networks.CONDITIONAL else None
    net = networks.build(kind)
    exact = networks.inputs(kind, sum(lengths), cond=tokens)

    def packings(device):
        packing = Packing.from_lengths(lengths, device)
        if kind in networks.CONDITIONAL:
            return {"packing": packing, "kv_packing": Packing.from_lengths(cond, device)}
        return {"packing": packing}

    def run(net, inputs, backend):
        device = inputs[0].device
        attention = packings(device)
        if kind in networks.CONDITIONAL:
            keywords = {
                "attn_kwargs": {"packing": attention["packing"], "backend": backend},
                "crossattn_kwargs": {**attention, "backend": backend},
            }
        else:
            keywords = {**attention, "backend": backend}
        outputs = net(*inputs, **keywords)
        total = sum((out * (1 + out)).sum() for out in outputs)
        return [*outputs, *torch.autograd.grad(total, [*inputs, *net.parameters()])]

    expected = run(net, exact, "native")
    # Where large terms cancel, single precision on a CPU is off as well.
    single = [x.detach().float().requires_grad_() for x in exact]
    rounded = run(copy.deepcopy(net).float(), single, "native")
    theirs = type(net)(**{**networks._ARGUMENTS[kind], **options})
    theirs.load_state_dict(net.state_dict())
    inputs = [x.detach().to(CUDA, torch.float32).requires_grad_() for x in exact]
    found = run(theirs.to(CUDA, torch.float32).eval(), inputs, name)
    for a, b, c in zip(found, expected, rounded, strict=True):
        assert deviation(a, b) <= 2e-5 + 3 * deviation(c, b)


@pytest.mark.parametrize("kind", networks.KINDS)
def test_autocast(kind):
    """In bfloat16 within its precision, and the multivectors stay in float32."""
    net = networks.build(kind)
    exact = networks.inputs(kind, 3, 9)
    expected = net(*exact)
    inputs = [x.detach().to(CUDA, torch.float32) for x in exact]
    with torch.autocast("cuda", torch.bfloat16):
        found = net.to(CUDA, torch.float32)(*inputs)
    for a, b in zip(found, expected, strict=True):
        assert deviation(a, b.detach()) <= 3e-2


COMPILED = [(kind, False) for kind in networks.KINDS] + [(networks.KINDS[0], True)]


@pytest.mark.parametrize(("kind", "packed"), COMPILED)
def test_compiled(kind, packed):
    net = networks.build(kind)
    exact = networks.inputs(kind, 27) if packed else networks.inputs(kind, 3, 9)
    options = {"packing": Packing.from_lengths((4, 20, 3))} if packed else {}
    expected = net(*exact, **options)
    probes = [torch.randn_like(out) for out in expected]
    theirs = torch.autograd.grad(expected, [*exact, *net.parameters()], probes)
    compiled = type(net)(**{**networks._ARGUMENTS[kind], "compile": True})
    compiled.load_state_dict(net.state_dict())
    compiled = compiled.to(CUDA, torch.float32).eval()
    inputs = [x.detach().to(CUDA, torch.float32).requires_grad_() for x in exact]
    options = {name: packing.to(CUDA) for name, packing in options.items()}
    outputs = compiled(*inputs, **options)
    ours = torch.autograd.grad(
        outputs, [*inputs, *compiled.parameters()], [p.to(CUDA, torch.float32) for p in probes]
    )
    for a, b in zip([*outputs, *ours], [*expected, *theirs], strict=True):
        assert deviation(a, b.detach()) <= 1e-4


@pytest.mark.parametrize("backend", ["native", "xformers"])
def test_equivariance(backend):
    kind = networks.KINDS[0]
    net = networks.build(kind).to(CUDA, torch.float32)
    packing = Packing.from_lengths((5, 20, 9), CUDA)
    x, s = (t.detach().to(CUDA, torch.float32) for t in networks.inputs(kind, 34))
    with torch.no_grad():
        out, out_s = net(x, s, packing=packing, backend=backend)
        for _ in range(5):
            change = random_transformation(rapidity=1.0)
            moved = transform(x.double().cpu(), change).to(CUDA, torch.float32)
            found, found_s = net(moved, s, packing=packing, backend=backend)
            expected = transform(out.double().cpu(), change)
            assert deviation(found, expected) <= 1e-4
            assert deviation(found_s, out_s.double().cpu()) <= 1e-4


@pytest.mark.parametrize("name", ["lgatr_small", "lgatr_slim_small", "transformer_small"])
def test_no_training_step_waits_for_the_gpu(name):
    """CUDA's own watch: any synchronisation of host and device is an error."""
    model = build_tagger(name).float().cuda().train()
    events = events_batch()
    momenta = events.fourmomenta.float().cuda()
    events = type(events)(
        momenta, events.scalars.float().cuda(), events.packing.to(CUDA), events.target.cuda()
    )
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        model(events).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    for _ in range(2):  # kernels are chosen and tables are made
        step()
    torch.cuda.synchronize()
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode(mode)


@pytest.mark.parametrize("name", ["lgatr_small", "lgatr_slim_small", "transformer_small"])
def test_taggers_on_both_devices(name):
    model, events = build_tagger(name), events_batch((30, 1, 17, 22))
    expected = model(events)
    on_gpu = type(events)(
        events.fourmomenta.float().cuda(),
        events.scalars.float().cuda(),
        events.packing.to(CUDA),
        events.target.cuda(),
    )
    found = model.float().cuda()(on_gpu)
    assert deviation(found, expected.detach()) <= 1e-4
