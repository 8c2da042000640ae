"""All four networks: packed batches, dropout, checkpointing, files, and errors."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import lgatr
from lgatr import ConditionalLGATr, LGATr, LGATrSlim, Packing, load_checkpoint
from support import networks
from support.slow import slow_but_for

LENGTHS, COND_LENGTHS = [1, 2, 40, 7, 7], [3, 1, 9, 2, 60]
kinds = pytest.mark.parametrize("kind", networks.KINDS, ids=lambda kind: kind.__name__)


def total(outputs):
    return sum((t * torch.linspace(-1, 1, t.numel()).view_as(t)).sum() for t in outputs)


@kinds
@pytest.mark.parametrize("backend", ["native", "xformers"])
@pytest.mark.filterwarnings("ignore::lgatr.attention.AttentionFallbackWarning")
def test_packed_equals_single_events(kind, backend):
    if backend == "xformers":
        pytest.importorskip("xformers")
    net = networks.build(kind)
    values = networks.inputs(kind, sum(LENGTHS), cond=(sum(COND_LENGTHS),))
    packings = {"packing": Packing.from_lengths(LENGTHS)}
    if kind in networks.CONDITIONAL:
        packings["kv_packing"] = Packing.from_lengths(COND_LENGTHS)
    packed = net(*values, **networks.attention(kind, **packings, backend=backend))

    lengths = [LENGTHS, COND_LENGTHS] * 2 if kind in networks.CONDITIONAL else [LENGTHS] * 2
    pieces = [value.split(n) for value, n in zip(values, lengths, strict=True)]
    singles = [net(*event) for event in zip(*pieces, strict=True)]
    joined = [torch.cat(parts) for parts in zip(*singles, strict=True)]
    leaves = [*values, *net.parameters()]
    for a, b in zip(packed, joined, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    gradients = (torch.autograd.grad(total(out), leaves) for out in (packed, joined))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-11)


@kinds
def test_leading_one_and_offsets_describe_the_same_batch(kind):
    net = networks.build(kind)
    values = networks.inputs(kind, 9)
    packing = Packing.from_lengths([4, 5])
    expected = net(*values, **networks.attention(kind, packing=packing))
    wide = net(*(v[None] for v in values), **networks.attention(kind, packing=packing))
    offsets = {"cu_seqlens_q": packing.ptr, "cu_seqlens_k": packing.ptr, "max_seqlen_q": 5}
    by_offsets = net(*values, **networks.attention(kind, **offsets))
    for a, b, c in zip(expected, wide, by_offsets, strict=True):
        assert torch.equal(a[None], b) and torch.equal(a, c)


@kinds
def test_checkpointing_with_dropout_changes_nothing(kind):
    values = networks.inputs(kind, 2, 5)
    gradients = []
    torch.manual_seed(3)
    plain = networks.build(kind, dropout_prob=0.3)
    saving = networks.build(kind, dropout_prob=0.3, checkpoint_blocks=True)
    saving.load_state_dict(plain.state_dict())
    for net in (plain.train(), saving.train()):
        torch.manual_seed(4)
        gradients.append(torch.autograd.grad(total(net(*values)), list(net.parameters())))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


@kinds
def test_dropout_only_in_training(kind):
    net = networks.build(kind, dropout_prob=0.5)
    values = networks.inputs(kind, 1, 5)
    assert torch.equal(net(*values)[0], net(*values)[0])
    net.train()
    assert not torch.equal(net(*values)[0], net(*values)[0])


@kinds
def test_saved_and_built_again(kind, tmp_path):
    net = networks.build(kind, dtype=torch.float32)
    file = net.save_pretrained(tmp_path / "net")
    assert [p.name for p in (tmp_path / "net").iterdir()] == ["model.safetensors"]
    values = networks.inputs(kind, 2, 5, dtype=torch.float32)
    for source in (file, tmp_path / "net"):
        again = kind.from_pretrained(source)
        assert again.arguments == net.arguments
        for a, b in zip(net(*values), again(*values), strict=True):
            assert torch.equal(a, b)
    double = networks.build(kind)
    double.save_pretrained(tmp_path / "net")
    assert next(kind.from_pretrained(file).parameters()).dtype == torch.float64


def test_configurations_survive_a_file(tmp_path):
    net = LGATr(
        num_blocks=1,
        in_mv_channels=1,
        out_mv_channels=1,
        hidden_mv_channels=4,
        in_s_channels=0,
        out_s_channels=0,
        hidden_s_channels=4,
        attention=lgatr.SelfAttentionConfig(num_heads=2, multi_query=True),
        mlp=lgatr.MLPConfig(nonlinearity="silu"),
        primitives=lgatr.PrimitivesConfig(subgroup=False),
        reinsert_mv_channels=(0,),
        compile=True,
        compile_kwargs={"backend": "eager"},
    )
    net.save_pretrained(tmp_path)
    again = LGATr.from_pretrained(tmp_path, checkpoint_blocks=True)
    assert again.checkpoint_blocks and again._compiled is None
    assert again.reinsert_mv_channels == (0,) and again.linear_in.weight.shape[-1] == 5


class TestFileErrors:
    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such file|no such"):
            LGATr.from_pretrained(tmp_path)

    def test_damaged(self, tmp_path):
        path = networks.build(LGATr).save_pretrained(tmp_path)
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(ValueError, match="not a safetensors file or damaged"):
            LGATr.from_pretrained(tmp_path)

    def test_flipped_numbers(self, tmp_path):
        """They load without an error; the checksum tells. Files without one are read."""
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        path = networks.build(LGATr).save_pretrained(tmp_path)
        content = path.read_bytes()
        path.write_bytes(content[:-768] + bytes(b ^ 1 for b in content[-768:]))
        load_file(path)
        with pytest.raises(ValueError, match="do not match their checksum"):
            LGATr.from_pretrained(tmp_path)
        with safe_open(path, framework="pt") as file:
            header = {k: v for k, v in file.metadata().items() if "sha256" not in k}
        save_file(load_file(path), path, header)
        LGATr.from_pretrained(tmp_path)

    def test_flipped_numbers_of_torch(self, tmp_path):
        net = networks.build(LGATr)
        path = tmp_path / "a.ckpt"
        torch.save({"state_dict": net.state_dict()}, path)
        lgatr.load_checkpoint(net, path)
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(b ^ 1 for b in content[middle : middle + 64])
        path.write_bytes(content)
        torch.load(path, weights_only=True)
        with pytest.raises(ValueError, match="does not match its checksum"):
            lgatr.load_checkpoint(net, path)

    def test_other_network(self, tmp_path):
        networks.build(LGATrSlim).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"use LGATrSlim\.from_pretrained"):
            LGATr.from_pretrained(tmp_path)

    def test_foreign_weights(self, tmp_path):
        from safetensors.torch import save_file

        save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match="use load_checkpoint"):
            LGATr.from_pretrained(tmp_path)


class TestCheckpoints:
    @kinds
    def test_wrapped_names(self, kind, tmp_path):
        net, other = networks.build(kind), networks.build(kind)
        state = {f"module.model.{k}": v for k, v in net.state_dict().items()}
        state["module.head.weight"] = torch.ones(2)
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.ckpt")
        load_checkpoint(other, tmp_path / "a.ckpt")
        for name, tensor in net.state_dict().items():
            assert torch.equal(other.state_dict()[name], tensor)
        file = net.save_pretrained(tmp_path)
        assert load_checkpoint(networks.build(kind), str(file)) is not None

    def test_two_networks_need_a_prefix(self):
        a, b = networks.build(LGATr), networks.build(LGATr)
        state = {f"a.{k}": v for k, v in a.state_dict().items()}
        state |= {f"b.{k}": v for k, v in b.state_dict().items()}
        with pytest.raises(ValueError, match=r"several: 'a\.', 'b\.'; give prefix"):
            load_checkpoint(networks.build(LGATr), state)
        net = load_checkpoint(networks.build(LGATr), state, prefix="b.")
        assert torch.equal(net.linear_in.weight, b.linear_in.weight)

    def test_another_network(self):
        state = networks.build(LGATr).state_dict()
        with pytest.raises(ValueError, match=r"missing: blocks\.2.* and \d+ more"):
            load_checkpoint(networks.build(LGATr, num_blocks=3), state)
        with pytest.raises(ValueError, match=r"unknown: blocks\.1"):
            load_checkpoint(networks.build(LGATr, num_blocks=1), state)
        with pytest.raises(ValueError, match="of another size: .* is "):
            load_checkpoint(networks.build(LGATr, hidden_mv_channels=8), state)
        with pytest.raises(ValueError, match="found none"):
            load_checkpoint(networks.build(LGATr), {"weight": torch.ones(1)})

    def test_files_that_are_no_checkpoints(self, tmp_path):
        net = networks.build(LGATr)
        with pytest.raises(FileNotFoundError, match="no such file"):
            load_checkpoint(net, tmp_path / "a.pt")
        (tmp_path / "a.pt").write_text("junk")
        with pytest.raises(ValueError, match="not a readable checkpoint"):
            load_checkpoint(net, tmp_path / "a.pt")
        torch.save([1, 2], tmp_path / "a.pt")
        with pytest.raises(ValueError, match="no weights by name"):
            load_checkpoint(net, tmp_path / "a.pt")

    def test_code_in_a_pickle_is_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (pytest.fail, ("code of a checkpoint was run",))

        (tmp_path / "a.pt").write_bytes(pickle.dumps(Evil()))
        with pytest.raises(ValueError, match="not a readable checkpoint"):
            load_checkpoint(networks.build(LGATr), tmp_path / "a.pt")


class TestErrors:
    def test_slim_networks_need_scalars(self):
        net = networks.build(LGATrSlim)
        x, _ = networks.inputs(LGATrSlim, 2, 5)
        with pytest.raises(ValueError, match="need scalars"):
            net(x, None)

    @kinds
    def test_channels_that_do_not_fit(self, kind):
        values = networks.inputs(kind, 2, 5)
        with pytest.raises(ValueError, match="number of channels must be 2, not 1"):
            networks.build(kind)(values[0][..., :1, :], *values[1:])

    @kinds
    def test_tokens_that_do_not_fit(self, kind):
        packing = Packing.from_lengths([4, 4])
        with pytest.raises(ValueError, match="describes 8 tokens, but there are 9"):
            networks.build(kind)(
                *networks.inputs(kind, 9), **networks.attention(kind, packing=packing)
            )

    @kinds
    def test_several_sequences_and_a_packing(self, kind):
        packing = Packing.from_lengths([4, 4])
        with pytest.raises(ValueError, match="has several"):
            networks.build(kind)(
                *networks.inputs(kind, 2, 4), **networks.attention(kind, packing=packing)
            )

    @pytest.mark.parametrize("kind", networks.CONDITIONAL, ids=lambda kind: kind.__name__)
    def test_one_packing_of_two(self, kind):
        packing = Packing.from_lengths([4, 5])
        with pytest.raises(ValueError, match="both be packed"):
            networks.build(kind)(
                *networks.inputs(kind, 9), attn_kwargs={"packing": packing}, crossattn_kwargs={}
            )

    def test_different_numbers_of_events(self):
        kwargs = {"packing": Packing.from_lengths([9]), "kv_packing": Packing.from_lengths([4, 5])}
        with pytest.raises(ValueError, match="1 events, keys from 2"):
            networks.build(ConditionalLGATr)(
                *networks.inputs(ConditionalLGATr, 9),
                attn_kwargs={"packing": Packing.from_lengths([9])},
                crossattn_kwargs=kwargs,
            )

    def test_offsets(self):
        net = networks.build(LGATr)
        values = networks.inputs(LGATr, 9)
        ptr = torch.tensor([0, 4, 9])
        with pytest.raises(ValueError, match="both cu_seqlens"):
            net(*values, cu_seqlens_q=ptr)
        with pytest.raises(ValueError, match="whole numbers"):
            net(*values, cu_seqlens_q=ptr.float(), cu_seqlens_k=ptr.float())
        with pytest.raises(ValueError, match="kv_packing needs packing"):
            net(*values, kv_packing=Packing.from_ptr(ptr))


@pytest.mark.parametrize("kind", slow_but_for([LGATrSlim], networks.KINDS))
def test_copies_and_pickles(kind):
    net = networks.build(kind, num_blocks=1, compile=True, compile_kwargs={"backend": "eager"})
    values = networks.inputs(kind, 2, 5)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        for a, b in zip(net(*values), twin(*values), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [LGATrSlim, networks.KINDS[3]], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("missing", ["out_v_channels", "out_s_channels"])
def test_every_trainable_parameter_of_slim_networks_learns(kind, missing):
    net = networks.build(kind, **{missing: 0})
    total([t for t in net(*networks.inputs(kind, 2, 5)) if t.numel()]).backward()
    without = {name for name, p in net.named_parameters() if p.requires_grad and p.grad is None}
    assert without == set()
    assert any(not p.requires_grad for p in net.parameters())
