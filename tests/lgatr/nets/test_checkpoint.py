"""Checkpoints and saved networks that are damaged, foreign, or no such thing at all."""

from __future__ import annotations

import pytest
import torch

from lgatr import LGATr, load_checkpoint
from support import networks

CHANGES = {
    "complex": (lambda x: x.to(torch.complex64), "complex64, but real floating-point"),
    "whole": (lambda x: x.long(), "int64, but real floating-point"),
    "boolean": (lambda x: x > 0, "bool, but real floating-point"),
    "meta": (lambda x: x.to("meta"), "on meta, without numbers"),
    "sparse": (lambda x: x.to_sparse(), "must be a dense tensor"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_are_no_numbers(change):
    net = networks.build(LGATr)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    function, message = CHANGES[change]
    # One of them is enough, and then none is loaded.
    for name in ("linear_in.weight", "blocks.1.mlp.layers.2.weight", "linear_out.mvs2s.bias"):
        state = {key: torch.zeros_like(tensor) for key, tensor in before.items()}
        state[name] = function(state[name])
        with pytest.raises(ValueError, match=f"{name} .*{message}"):
            load_checkpoint(net, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_checkpoints_that_hold_themselves(tmp_path):
    first: dict = {}
    second = {"model": first}
    first["state_dict"] = second
    torch.save(first, tmp_path / "a.pt")
    for source in (first, tmp_path / "a.pt"):
        with pytest.raises(ValueError, match="holds itself"):
            load_checkpoint(networks.build(LGATr), source)


def test_weights_that_are_there_twice():
    net = networks.build(LGATr)
    state = {**net.state_dict(), "_orig_mod.linear_in.weight": net.linear_in.weight}
    with pytest.raises(ValueError, match=r"linear_in\.weight twice"):
        load_checkpoint(net, state)


def test_arguments_of_another_kind(tmp_path):
    net = networks.build(LGATr)
    state = net.state_dict()
    for wrong in ("net.pt", None, state):
        with pytest.raises(TypeError, match="takes the network first"):
            load_checkpoint(wrong, state)
    for wrong in (3, None, [state]):
        with pytest.raises(TypeError, match="a file or a mapping, not"):
            load_checkpoint(net, wrong)
    with pytest.raises(TypeError, match="prefix is what stands before"):
        load_checkpoint(net, state, prefix=3)
    with pytest.raises(TypeError, match="a directory or file, not int"):
        LGATr.from_pretrained(3)
    with pytest.raises(ValueError, match="to_empty"):
        load_checkpoint(networks.build(LGATr).to("meta"), state)


@pytest.mark.parametrize("wrap", [torch.compile, torch.nn.DataParallel])
def test_what_was_put_around_a_network_is_looked_through(wrap):
    net, other = networks.build(LGATr), networks.build(LGATr)
    wrapped = wrap(net)
    assert load_checkpoint(wrapped, wrap(other).state_dict()) is wrapped
    assert torch.equal(net.linear_in.weight, other.linear_in.weight)


def test_networks_without_numbers_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="on meta, without numbers to save"):
        networks.build(LGATr).to("meta").save_pretrained(tmp_path / "net")
    assert not (tmp_path / "net").exists()


ARGUMENTS = {
    "empty": lambda text: "{}",
    "list": lambda text: "[]",
    "no json": lambda text: text[:-1],
    "other": lambda text: text.replace('"num_blocks": 2', '"num_blocks": 3'),
    "impossible": lambda text: text.replace('"num_blocks": 2', '"num_blocks": -2'),
    # Weights of the same shapes, and other outputs.
    "heads": lambda text: text.replace('"num_heads": 2', '"num_heads": 4'),
}


@pytest.mark.parametrize("change", ARGUMENTS)
def test_changed_arguments(change, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = networks.build(LGATr).save_pretrained(tmp_path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    changed = ARGUMENTS[change](header["lgatr.arguments"])
    assert changed != header["lgatr.arguments"]
    tensors = load_file(path)
    save_file(tensors, path, {**header, "lgatr.arguments": changed})
    for read in (LGATr.from_pretrained, lambda path: load_checkpoint(networks.build(LGATr), path)):
        with pytest.raises(ValueError, match="do not match their checksum"):
            read(path)
    # Without the checksum, as in files of other programs, what does not fit is still told.
    del header["lgatr.sha256.all"]
    save_file(tensors, path, {**header, "lgatr.arguments": changed})
    if change != "heads":
        with pytest.raises(ValueError, match="arguments") as caught:
            LGATr.from_pretrained(path)
        assert "\n" not in str(caught.value)


def test_files_of_earlier_versions_have_a_checksum_of_the_weights(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    from lgatr.utils.pretrained import digest

    net = networks.build(LGATr)
    path = net.save_pretrained(tmp_path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    del header["lgatr.sha256.all"]
    header["lgatr.sha256"] = digest(net.state_dict())
    tensors = load_file(path)
    save_file(tensors, path, header)
    assert torch.equal(LGATr.from_pretrained(path).linear_in.weight, net.linear_in.weight)
    tensors["linear_in.weight"] += 1
    save_file(tensors, path, header)
    with pytest.raises(ValueError, match="do not match their checksum"):
        LGATr.from_pretrained(path)


def test_overrides_and_devices(tmp_path):
    networks.build(LGATr).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="do not fit a LGATr .* with num_blocks as given here"):
        LGATr.from_pretrained(tmp_path, num_blocks=3)
    with pytest.raises(TypeError, match="nonsense"):
        LGATr.from_pretrained(tmp_path, nonsense=1)
    with pytest.raises(ValueError, match="no device 'foo' here"):
        LGATr.from_pretrained(tmp_path, device="foo")
    with pytest.raises(TypeError, match='a name such as "cpu"'):
        LGATr.from_pretrained(tmp_path, device=None)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no device 'cuda' here"):
            LGATr.from_pretrained(tmp_path, device="cuda")
