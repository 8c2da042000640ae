"""Masks, scores and backends as users of networks meet them: symmetry, errors, memory, plug-ins."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from lgatr import LGATr, LGATrSlim, Packing
from lgatr.attention import (
    AttentionSpec,
    GappyKeys,
    PaddedKeys,
    PagedKeys,
    PairwiseBias,
    PrefixLM,
    SlidingWindow,
    backends,
    prepare_attention,
)
from lgatr.testing import assert_equivariant
from support import ROOT, networks
from support.attention_cases import MASKS, SCORES

CPU = torch.device("cpu")
LENGTHS = [7, 3, 1, 7, 5]


class TestEquivariance:
    @pytest.mark.parametrize("kind", [LGATr, LGATrSlim], ids=lambda kind: kind.__name__)
    @pytest.mark.parametrize("mask", [m for m in MASKS if m != "column_ranges"])
    def test_under_every_mask(self, mask, kind):
        self.holds(kind, mask=MASKS[mask]())

    @pytest.mark.parametrize("score", [s for s in SCORES if s not in ("none", "pairwise")])
    def test_under_scores_of_positions(self, score):
        modification = SCORES[score]()
        assert modification.symmetry == ("none" if score == "score_mod" else "lorentz")
        self.holds(LGATr, four_heads=True, score=modification)

    def holds(self, kind, four_heads=False, **pattern):
        # Tables of scores are made for four heads.
        net = networks.build(kind, **({"attention": {"num_heads": 4}} if four_heads else {}))
        packing = Packing.from_lengths(LENGTHS)

        def run(x, s):
            return net(x, s, packing=packing, **pattern)

        inputs, outputs = net.representations
        assert_equivariant(run, networks.inputs(kind, sum(LENGTHS)), inputs, outputs)

    @pytest.mark.parametrize(
        ("names", "claimed"), [(("m2",), "lorentz"), (("delta", "kt", "z"), "beam")]
    )
    def test_pairwise_bias_has_the_symmetry_it_claims(self, names, claimed):
        momenta = torch.randn(6, 4, dtype=torch.float64)
        momenta[:, 0] = momenta[:, 1:].norm(dim=1) + 0.3
        weights = torch.randn(2, len(names), dtype=torch.float64)
        values = [torch.randn(6, 2, 4, dtype=torch.float64) for _ in range(3)]
        packing = Packing.from_lengths([4, 2])

        def out(momenta):
            bias = PairwiseBias(momenta, weights, names)
            assert bias.symmetry == claimed
            return prepare_attention(CPU, torch.float64, packing=packing, score=bias)(*values)

        def generated(*planes):
            """The exponential of rotations and boosts in planes of (E, x, y, z)."""
            generator = torch.zeros(4, 4, dtype=torch.float64)
            for a, b, size in planes:
                generator[a, b], generator[b, a] = size, size if a == 0 else -size
            return torch.linalg.matrix_exp(generator)

        about_beam, tilted = generated((1, 2, 0.7), (0, 3, 1.1)), generated((0, 1, 0.8))
        change = [(out(momenta @ m.T) - out(momenta)).abs().max() for m in (about_beam, tilted)]
        assert change[0] < 1e-10
        assert (change[1] < 1e-10) == (claimed == "lorentz")


class TestErrors:
    """One sentence each, which says what to do."""

    def raises(self, match, backend="native", device=CPU, dtype=torch.float32, **pattern):
        with pytest.raises(ValueError, match=match):
            prepare_attention(device, dtype, backend=backend, **pattern)

    def test_unsupported_combination_names_who_can(self):
        packing = Packing.from_lengths([3, 2])
        with torch.no_grad():
            self.raises(
                "xformers: no kernel for .*prefix_lm.*usable here: flex, native",
                "xformers",
                packing=packing,
                mask=PrefixLM(1),
                strict=True,
            )
        self.raises("float64.*usable here: native", "flex", dtype=torch.float64, strict=True)

    def test_head_width(self):
        spec = AttentionSpec(packing=Packing.from_lengths([2]))
        cuda = torch.device("cuda")
        problem = backends()["varlen"].why_unusable(spec, cuda, torch.bfloat16, True, 300)
        assert problem == "heads are 300 numbers wide, and its kernels end at 256"
        attend = prepare_attention(CPU, torch.float32, spec=spec)
        object.__setattr__(attend, "backend", backends()["varlen"]())
        q = torch.randn(2, 1, 300)
        with pytest.raises(ValueError, match="up to 256 numbers wide, not 300.*native"):
            attend(q, q, q)

    def test_lengths_that_do_not_sum_up(self):
        q = torch.randn(5, 1, 4)
        attend = prepare_attention(CPU, torch.float32, packing=Packing.from_lengths([3, 3]))
        with pytest.raises(ValueError, match="describes 6 tokens, but there are 5"):
            attend(q, q, q)

    def test_empty_event(self):
        with pytest.raises(ValueError, match="event 1 has 0 tokens; leave empty events out"):
            Packing.from_lengths([3, 0, 2])

    def test_too_many_tokens(self):
        with pytest.raises(ValueError, match="exceed 2\\^31 - 1; use smaller batches"):
            Packing.from_lengths([2**30, 2**30])

    def test_tables_of_the_wrong_size(self):
        q = torch.randn(5, 1, 4)
        packing = Packing.from_lengths([3, 2])
        for pattern, match in (
            ({"mask": PrefixLM(torch.tensor([1, 1, 1]))}, "there are 2 events"),
            ({"mask": MASKS["column_ranges"]()}, "describes 23 keys, but there are 5"),
            ({"score": SCORES["pairwise"]()}, "holds 23 momenta"),
        ):
            attend = prepare_attention(CPU, torch.float32, packing=packing, **pattern)
            with pytest.raises(ValueError, match=match):
                attend(q, q, q)

    def test_masks_given_twice(self):
        self.raises("joined by &", mask=SlidingWindow(2), is_causal=True)
        self.raises("twice", packing=Packing.from_lengths([2]), spec=AttentionSpec())
        self.raises("joined by >>", score=SCORES["softcap"](), score_mod=lambda s, b, h, q, k: s)

    def test_masks_that_make_no_sense(self):
        for make, match in (
            (lambda: SlidingWindow(None, None), "no mask"),
            (lambda: SlidingWindow(-1), "at least 0"),
            (lambda: PaddedKeys(3, (4,)), "only 3 places"),
            (lambda: GappyKeys((0,), (4,), 3), "last of 3 places"),
            (lambda: PagedKeys(torch.zeros(1, 1, dtype=torch.int32), 2, (3,)), "ends after 2"),
            (lambda: GappyKeys((0,), (0,)), "at least one key"),
        ):
            with pytest.raises(ValueError, match=match):
                make()

    def test_storage_of_the_wrong_size(self):
        q, k = torch.randn(2, 1, 4), torch.randn(9, 1, 4)
        spec = AttentionSpec(packing=Packing.from_lengths([2]), kv_packing=PaddedKeys(5, (3,)))
        with pytest.raises(ValueError, match="has 5 places, but there are 9 keys"):
            prepare_attention(CPU, torch.float32, spec=spec)(q, k, k)

    def test_format(self):
        self.raises("not 'bf16'", compute_dtype="bf16")
        q = torch.randn(4, 1, 8)
        packing = Packing.from_lengths([4])
        out = prepare_attention(CPU, q.dtype, packing=packing, compute_dtype="bfloat16")(q, q, q)
        exact = prepare_attention(CPU, q.dtype, packing=packing)(q, q, q)
        assert out.dtype == torch.float32 and 0 < (out - exact).abs().max() < 0.05


@pytest.mark.slow
def test_memory_is_linear_in_events_and_small():
    def peak(kind, size):
        command = [sys.executable, "-m", "benchmarks.attention", "--memory", kind, str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        return float(done.stdout)

    some, twice, four = (peak("packed", n) for n in (2500, 5000, 10_000))
    assert 1.9 < twice / some < 2.1 and 1.9 < four / twice < 2.1
    assert four < 4000 and peak("ragged", 10_000) < 4000 and peak("window", 10_000) < 4000
    assert peak("columns", 1_000_000) < 50


@pytest.mark.slow
def test_a_package_of_its_own(tmp_path):
    """The example in examples/attention_backend, installed as pip would, is found and runs."""
    example = ROOT / "examples" / "attention_backend"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--target", str(tmp_path), str(example)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    code = (
        "import json, torch\n"
        "from lgatr.attention import Packing, backends, prepare_attention\n"
        "q, k, v = torch.randn(3, 9, 2, 4, dtype=torch.float64)\n"
        "p = Packing.from_lengths([4, 5])\n"
        "out = [prepare_attention(q.device, q.dtype, packing=p, backend=b)(q, k, v)\n"
        "       for b in ('loop', 'native')]\n"
        "print(json.dumps([sorted(backends()), float((out[0] - out[1]).abs().max())]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**__import__("os").environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    names, difference = json.loads(done.stdout)
    assert "loop" in names and difference < 1e-12
