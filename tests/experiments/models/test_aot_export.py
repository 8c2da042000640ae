"""A tagger compiled ahead of time, and a C++ program that prints its logits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from experiments.cli import CONFIG_DIR, ROOT
from experiments.data.batch import DataSpec
from experiments.models.aot_export import package_deviation, write_package
from experiments.models.onnx_export import TOLERANCE, example_jets
from experiments.models.onnx_padded_tagger import PaddedTagger

COMPILER = shutil.which("g++")


# Inductor compiles L-GATr in tests/lgatr/test_traced.py; a package of it takes minutes more.
@pytest.fixture(scope="module")
def package(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        overrides = ["model=lgatr_slim_small", "model.network.num_blocks=1"]
        cfg = compose("run", overrides=["experiment=toptagging", *overrides])
    torch.manual_seed(0)
    model = instantiate(cfg.model)(spec=DataSpec(0, ("a", "b"))).eval()
    tagger = PaddedTagger(model, (), 0).eval()
    path = tmp_path_factory.mktemp("aot") / "tagger.pt2"
    write_package(tagger, path)
    return tagger, path


@pytest.mark.slow
def test_it_has_the_logits_of_torch(package):
    assert package_deviation(*package) <= TOLERANCE


def build(folder):
    from torch.utils.cpp_extension import include_paths

    libraries = Path(torch.__file__).parent / "lib"
    program = folder / "score"
    command = [
        COMPILER, "-std=c++17", "-O0", str(ROOT / "examples" / "aot" / "score.cpp"), "-o",
        str(program), *(f"-I{path}" for path in include_paths()), f"-L{libraries}",
        f"-Wl,-rpath,{libraries}", "-ltorch", "-ltorch_cpu", "-lc10",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return program


@pytest.mark.slow
def test_a_cpp_program_prints_them(package, tmp_path):
    tagger, path = package
    jets = example_jets(5, 12, seed=3)
    with torch.no_grad():
        expected = tagger(jets)[:, 0].numpy()
    command = [str(build(tmp_path)), str(path), "5", "12"]
    done = subprocess.run(command, input=jets.numpy().astype("<f4").tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.array(done.stdout.split(), float), expected, atol=TOLERANCE)
