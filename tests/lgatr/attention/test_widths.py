"""Values of another width, and shared keys, as kernels that cannot run here take them: fakes."""

from __future__ import annotations

import pytest
import torch

from lgatr.attention import AttentionSpec, Packing, backends
from lgatr.attention.backends import flash
from support import attention_reference as reference

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*lru_cache")


class TestWidths:
    """Values of another width than queries, and keys that heads share, as kernels take them."""

    LENGTHS, WIDTHS = (3, 5), [(6, 10), (12, 4)]

    def run(self, name, monkeypatch, module, function, dense, widths, shared):
        """What the backend makes of a kernel that is ``dense`` attention."""
        heads, (d, e) = 4, widths
        tokens = sum(self.LENGTHS)
        q, k, v = (torch.randn(tokens, h, w) for h, w in ((heads, d), (shared, d), (shared, e)))
        spec = AttentionSpec(packing=Packing.from_lengths(self.LENGTHS), scale=0.3)
        monkeypatch.setattr(module, function, dense)
        backend = backends()[name]()
        out = backend.attend(q, k, v, spec, backend.plan(spec, CPU))
        allowed = torch.block_diag(*(torch.ones(n, n) for n in self.LENGTHS)).bool()
        theirs = reference.attention(
            q, k, v, allowed.expand(heads, -1, -1), torch.zeros(()), scale=0.3
        )[0]
        assert out.shape == (tokens, heads, e)
        torch.testing.assert_close(out.double(), theirs, rtol=1e-5, atol=1e-5)

    @staticmethod
    def kernel(q, k, v, cu_q, cu_k, *limits, softmax_scale=None, **options):
        """Packed attention that wants one width, as flash-attention does."""
        assert q.shape[-1] == k.shape[-1] == v.shape[-1] and q.shape[-1] % 8 == 0
        scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
        lengths = [int(n) for n in cu_q.diff()]
        allowed = torch.block_diag(*(torch.ones(n, n) for n in lengths)).bool()
        expanded = allowed.expand(q.shape[1], -1, -1)
        return reference.attention(q, k, v, expanded, torch.zeros(()), scale=scale)[0].to(q.dtype)

    widths = pytest.mark.parametrize("widths", WIDTHS, ids=str)
    shared = pytest.mark.parametrize("shared", [1, 2, 4])

    @widths
    @shared
    def test_varlen(self, monkeypatch, widths, shared):
        varlen = pytest.importorskip("torch.nn.attention.varlen")

        def kernel(q, k, v, cu_q, cu_k, max_q, max_k, **options):
            assert k.shape[1] == q.shape[1]
            return self.kernel(q, k, v, cu_q, cu_k)

        from lgatr.attention.backends import varlen as ours

        monkeypatch.setattr(ours, "_arguments", lambda: frozenset({"window_size"}))
        self.run("varlen", monkeypatch, varlen, "varlen_attn", kernel, widths, shared)

    @widths
    @shared
    def test_flash(self, monkeypatch, widths, shared):
        import sys
        from types import ModuleType

        def kernel(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, **options):
            return self.kernel(
                q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale=options["softmax_scale"]
            )

        module = ModuleType("flash_attn")
        monkeypatch.setitem(sys.modules, "flash_attn", module)
        monkeypatch.setattr(module, "flash_attn_varlen_func", None, raising=False)
        monkeypatch.setattr(flash.importlib.util, "find_spec", lambda name: None)
        self.run("flash", monkeypatch, module, "flash_attn_varlen_func", kernel, widths, shared)

    @widths
    @shared
    @pytest.mark.filterwarnings("ignore")
    def test_xformers(self, monkeypatch, widths, shared):
        ops = pytest.importorskip("xformers.ops")

        def kernel(q, k, v, attn_bias, p, scale):
            # xFormers checks shapes; not each of its operators has values of another width.
            ops.fmha.common.Inputs(q, k, v, attn_bias, p, scale).validate_inputs()
            assert q.shape[-1] == v.shape[-1] and q.shape[-1] % 8 == 0
            bias = attn_bias.materialize((q.shape[1], k.shape[1]))
            every = (bias == 0).expand(q.shape[2], -1, -1)
            out = reference.attention(q[0], k[0], v[0], every, torch.zeros(()), scale=scale)[0]
            return out.unsqueeze(0)

        self.run("xformers", monkeypatch, ops, "memory_efficient_attention", kernel, widths, shared)

    @widths
    @shared
    @pytest.mark.filterwarnings("ignore")
    def test_flex(self, monkeypatch, widths, shared):
        from lgatr.attention.backends import flex

        compiler = lambda device, with_lse: "eager"  # noqa: E731
        with torch.no_grad():
            self.run("flex", monkeypatch, flex, "_compiler", compiler, widths, shared)
