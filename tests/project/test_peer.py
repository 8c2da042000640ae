"""Drop-in for lgatr 2.0, reader of lgatr 1.x, host of lloca: against the real packages."""

from __future__ import annotations

import functools
import importlib
import inspect

import pytest
import torch

import lgatr
from lgatr import ConditionalLGATr, ConditionalLGATrSlim, LGATr, LGATrSlim, load_checkpoint
from support import dropin_script, peers
from support.slow import slow_but_for

TOLERANCE = {"float32": 1e-5, "float64": 1e-11}


@pytest.fixture(scope="module")
def peer():
    return peers.install("lgatr-2.0.0", "lgatr==2.0.0")


@pytest.fixture(scope="module")
def runs(peer, tmp_path_factory):
    """The peer with its weights, ours with them; ours with its weights, the peer with them."""

    @functools.cache
    def found(kind):
        folder = tmp_path_factory.mktemp("dropin")
        files = [folder / f"{i}.pt" for i in range(3)]
        theirs = peers.run("dropin_script.py", files[0], kind, path=[peer])
        ours = peers.run("dropin_script.py", files[1], kind, files[0], path=[peers.ROOT])

        @functools.cache
        def back():
            return peers.run("dropin_script.py", files[2], kind, files[1], path=[peer])

        return ours, theirs, back

    return found


def names():
    slow = pytest.mark.slow  # compilation of both libraries takes half a minute
    return [
        pytest.param(f"{cls.__name__}, {name}, {dtype}", marks=[slow] * (name == "compiled"))
        for cls, variants in dropin_script.VARIANTS.items()
        for name in variants
        for dtype in TOLERANCE
        if name != "compiled" or dtype == "float32"
    ]


@pytest.mark.parametrize("key", names())
def test_same_weights_give_same_outputs_and_gradients(runs, key):
    # Loading with strict=True in both directions happened in the script.
    kind = "compiled" if "compiled" in key else "eager"
    ours, theirs, _ = runs(kind)
    equal(ours[key], theirs[key], key)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["eager", "compiled"])
def test_the_reference_library_takes_our_weights(runs, kind):
    ours, _, back = runs(kind)
    assert ours.keys() == back().keys()
    for key in ours:
        equal(ours[key], back()[key], key)


def equal(ours, theirs, key):
    """Outputs and gradients of the same weights, and what the two networks are made of."""
    limit = TOLERANCE[key.rsplit(", ", 1)[1]]
    assert {k: v.shape for k, v in ours["state"].items()} == {
        k: v.shape for k, v in theirs["state"].items()
    }
    assert ours["shapes"] == theirs["shapes"]
    assert ours["trainable"] == theirs["trainable"]
    for a, b in zip(ours["outputs"], theirs["outputs"], strict=True):
        assert peers.deviation(a, b) <= limit
    assert peers.deviation(ours["input gradient"], theirs["input gradient"]) <= limit
    assert ours["gradients"].keys() == theirs["gradients"].keys()
    for name, gradient in ours["gradients"].items():
        assert peers.deviation(gradient, theirs["gradients"][name]) <= limit, name


SIGNATURES = """
import importlib, inspect, json, pkgutil, sys, warnings
warnings.simplefilter("ignore")
import lgatr
found = {}
for module in pkgutil.walk_packages(lgatr.__path__, "lgatr."):
    try:
        loaded = importlib.import_module(module.name)
    except ImportError:
        continue
    for name, thing in vars(loaded).items():
        if name.startswith("_") or not callable(thing):
            continue
        home = getattr(thing, "__module__", "")
        # Where it is defined, and where a package offers it.
        if home != module.name and not (module.ispkg and home.startswith(module.name)):
            continue
        call = thing.__init__ if inspect.isclass(thing) else thing
        found[f"{module.name}:{name}"] = {
            "parameters": [
                [p.name, p.kind.name, repr(p.default) if p.default is not p.empty else "-"]
                for p in inspect.signature(call).parameters.values()
            ],
            "forward": [p for p in inspect.signature(thing.forward).parameters]
            if hasattr(thing, "forward") else [],
        }
found["top"] = [n for n in dir(lgatr) if not n.startswith("_")]
import torch
torch.save(found, sys.argv[1])
"""


@pytest.fixture(scope="module")
def signatures(peer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("signatures")
    script = folder / "signatures.py"
    script.write_text(SIGNATURES)
    return peers.run(str(script), folder / "found.pt", path=[peer])


def test_every_public_name_is_where_the_peer_has_it(signatures):
    missing = [name for name in signatures.pop("top") if not hasattr(lgatr, name)]
    different = []
    for place, theirs in signatures.items():
        module, name = place.split(":")
        try:
            thing = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            missing.append(place)
            continue
        call = thing.__init__ if inspect.isclass(thing) else thing
        ours = {p.name: p for p in inspect.signature(call).parameters.values()}
        positional = [n for n, kind, _ in theirs["parameters"] if kind.startswith("POSITIONAL")][
            : len(ours)
        ]
        if list(ours)[: len(positional)] != positional:
            different.append(f"{place}: {positional} and {list(ours)}")
        for parameter, _, default in theirs["parameters"]:
            own = ours.get(parameter)
            if own is not None and default != "-" and repr(own.default) != default:
                different.append(f"{place}: {parameter}={own.default!r}, not {default}")
        if theirs["forward"]:
            forward = list(inspect.signature(thing.forward).parameters)
            if forward[: len(theirs["forward"])] != theirs["forward"]:
                different.append(f"{place}.forward: {theirs['forward']} and {forward}")
    assert (missing, different) == ([], [])


@pytest.mark.parametrize("cls", dropin_script.VARIANTS, ids=lambda cls: cls.__name__)
def test_script_uses_every_documented_argument(signatures, cls):
    used = set(dropin_script.BASE[cls]).union(*dropin_script.VARIANTS[cls].values())
    place = next(k for k in signatures if k.endswith(f":{cls.__name__}"))
    documented = {name for name, *_ in signatures[place]["parameters"]} - {"self"}
    assert documented <= used


LEGACY = {"num_heads": 2, "qkv_bias": True}
MLP = {"nonlinearity": "gelu_lgatr1"}
SLIM = {"qkv_bias": True, "nonlinearity": "gelu_exact", "nonlinearity_v": None}
MULTIVECTORS = {
    "num_blocks": 2,
    "in_mv_channels": 2,
    "out_mv_channels": 1,
    "hidden_mv_channels": 4,
    "in_s_channels": 2,
    "out_s_channels": 1,
    "hidden_s_channels": 8,
}
VECTORS = {k.replace("_mv_", "_v_"): v for k, v in MULTIVECTORS.items()} | {"num_heads": 2}


def legacy_networks(version: str, gains: bool):
    ratio = 2 if version == "1.0.0" else 1  # 1.0 had other defaults
    attention = {**LEGACY, "head_scale": True, "attn_ratio": ratio}
    mlp = {**MLP, "mlp_ratio": 2 if version == "1.0.0" else 4}
    affine = {"norm_elementwise_affine": gains}
    return {
        "encoder": LGATr(**MULTIVECTORS, attention=attention, mlp=mlp, **affine),
        "decoder": ConditionalLGATr(
            **MULTIVECTORS,
            mv_channels_cond=3,
            s_channels_cond=3,
            attention=LEGACY,
            crossattention={**LEGACY, "head_norm": False},
            mlp=mlp,
            **affine,
        ),
        "slim": LGATrSlim(**VECTORS, **SLIM, **affine),
        "slim decoder": ConditionalLGATrSlim(
            **VECTORS, v_channels_cond=3, s_channels_cond=3, **SLIM, **affine
        ),
    }


@pytest.fixture(scope="module", params=slow_but_for(["1.4.4"], ["1.0.0", "1.4.4"]))
def legacy(request, tmp_path_factory):
    path = peers.install(
        f"lgatr-{request.param}", f"lgatr=={request.param}", "opt_einsum", "einops"
    )
    target = tmp_path_factory.mktemp("legacy") / "result.pt"
    return request.param, peers.run("legacy_script.py", target, path=[path])


@pytest.mark.parametrize("gains", [True, False])
def test_weights_of_lgatr_1_give_the_same_outputs(legacy, gains, tmp_path):
    version, results = legacy
    networks = legacy_networks(version, gains)
    for name, result in results.items():
        net = networks[name].double()
        # As a training script would have saved it, from a wrapped and compiled network.
        file = tmp_path / "checkpoint.pt"
        wrapped = {f"_orig_mod.net.{k}": v for k, v in result["state"].items()}
        torch.save({"model": wrapped, "optimizer": {"lr": 1.0}}, file)
        assert load_checkpoint(net, file) is net
        for ours, theirs in zip(net(*result["inputs"]), result["outputs"], strict=True):
            assert peers.deviation(ours.detach(), theirs) <= 1e-12, name


def test_networks_that_are_not_of_lgatr_1_are_refused(legacy):
    version, results = legacy
    encoder = results["encoder"]["state"]
    ratio = {"attn_ratio": 2} if version == "1.0.0" else {}
    attention = {"num_heads": 2, "head_scale": True, **ratio}
    with pytest.raises(ValueError, match="gelu_lgatr1"):
        load_checkpoint(LGATr(**MULTIVECTORS, attention=attention, mlp={}), encoder)
    with pytest.raises(ValueError, match="qkv_bias"):
        load_checkpoint(LGATr(**MULTIVECTORS, attention=attention, mlp=MLP), encoder)
    if "decoder" in results:
        decoder = {"mv_channels_cond": 3, "s_channels_cond": 3, "crossattention": LEGACY}
        with pytest.raises(ValueError, match="head_norm"):
            net = ConditionalLGATr(**MULTIVECTORS, attention=LEGACY, mlp=MLP, **decoder)
            load_checkpoint(net, results["decoder"]["state"])
        with pytest.raises(ValueError, match="nonlinearity_v"):
            load_checkpoint(LGATrSlim(**VECTORS, qkv_bias=True), results["slim"]["state"])


@pytest.fixture(scope="module")
def lloca():
    # Without dependencies: its requirement lgatr is ours.
    needed = ("lloca==2.0.0", "torch-geometric", "pelican-lite", "xxhash", "psutil", "requests")
    return peers.install("lloca-2.0.0", *needed, "idna", "urllib3", "certifi", "charset-normalizer")


@pytest.mark.slow
def test_lloca_runs_on_ours_as_on_the_peer(lloca, peer, tmp_path):
    files = [tmp_path / f"{i}.pt" for i in range(3)]
    theirs = peers.run("lloca_script.py", files[0], path=[peer, lloca])
    ours = peers.run("lloca_script.py", files[1], files[0], path=[peers.ROOT, lloca])
    for name, result in ours.items():
        for a, b in zip(result["outputs"], theirs[name]["outputs"], strict=True):
            assert peers.deviation(a, b) <= 1e-11
        assert result["gradients"].keys() == theirs[name]["gradients"].keys()
        for parameter, gradient in result["gradients"].items():
            assert peers.deviation(gradient, theirs[name]["gradients"][parameter]) <= 1e-10
    # Several events at once, with the mask object of xformers that lloca builds.
    packed = peers.run("lloca_script.py", files[2], files[0], "packed", path=[peers.ROOT, lloca])
    assert all(torch.isfinite(t).all() for r in packed.values() for t in r["gradients"].values())
