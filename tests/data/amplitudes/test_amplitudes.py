"""Squared amplitudes beside independent expressions: textbook formulas, recursions, traces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from data.amplitudes import gluons, phase_space, z_boson
from data.amplitudes.processes import PROCESSES, generate
from support import lorentz

METRIC = np.diag([1.0, -1.0, -1.0, -1.0])
COLOURS = 3
STRONG = 4 * np.pi * 0.118


def events(name, count, seed=1):
    chunks = generate(PROCESSES[name], count, seed, (500.0, 1500.0), phase_space.Cuts())
    momenta, amplitudes = (np.concatenate(x) for x in zip(*chunks, strict=True))
    return momenta, amplitudes


def products(momenta):
    """2 p_i · p_j with all particles outgoing."""
    signed = np.concatenate([-momenta[:, :2], momenta[:, 2:]], axis=1)
    return 2 * np.einsum("nim,mk,njk->nij", signed, METRIC, signed)


def textbook_four(momenta):
    """Ellis, Stirling and Webber, table 7.1."""
    m = products(momenta)
    s, t, u = m[:, 0, 1], m[:, 0, 2], m[:, 0, 3]
    return STRONG**2 * 9 / 2 * (3 - t * u / s**2 - s * u / t**2 - s * t / u**2)


def parke_taylor(momenta):
    """Parke and Taylor's sum over orders, exact in colours for five gluons."""
    m = np.abs(products(momenta))
    n = momenta.shape[1]
    helicities = sum(m[:, i, j] ** 4 for i in range(n) for j in range(i))
    orders = 0.0
    for inner in itertools.permutations(range(1, n)):
        order = (0, *inner)
        term = 1.0
        for i, j in zip(order, (*inner, 0), strict=True):
            term = term / m[:, i, j]
        orders = orders + term
    colours = COLOURS ** (n - 2) * (COLOURS**2 - 1)
    mirrored = 1 if n == 4 else 2
    return STRONG ** (n - 2) * mirrored * colours * helicities * orders / 256


def test_two_gluons_to_two():
    momenta, ours = events("gggg", 1000)
    np.testing.assert_allclose(ours, textbook_four(momenta), rtol=1e-10)
    np.testing.assert_allclose(ours, parke_taylor(momenta), rtol=1e-10)


def test_two_gluons_to_three():
    momenta, ours = events("ggggg", 1000)
    np.testing.assert_allclose(ours, parke_taylor(momenta), rtol=1e-10)


def dot(a, b):
    return a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3]


def three(j1, p1, j2, p2):
    return (2 * dot(p2, j1) * j2 - 2 * dot(p1, j2) * j1 + dot(j1, j2) * (p1 - p2)) / np.sqrt(2)


def four(j1, j2, j3):
    return dot(j1, j3) * j2 - (dot(j1, j2) * j3 + dot(j2, j3) * j1) / 2


def ordered_amplitude(momenta, polarizations):
    """Berends and Giele's recursion for gluons in this order (Nucl. Phys. B306, 759)."""
    n = len(momenta) - 1
    sums = {(i, i + 1): momenta[i] for i in range(n)}
    currents = {(i, i + 1): polarizations[i] for i in range(n)}
    for length in range(2, n + 1):
        for a in range(n - length + 1):
            b = a + length
            total = 0.0
            for m in range(a + 1, b):
                total = total + three(currents[a, m], sums[a, m], currents[m, b], sums[m, b])
                for k in range(m + 1, b):
                    total = total + four(currents[a, m], currents[m, k], currents[k, b])
            sums[a, b] = sums[a, b - 1] + momenta[b - 1]
            if length < n:
                total = total / dot(sums[a, b], sums[a, b])
            currents[a, b] = total
    return dot(currents[0, n], polarizations[n])


def polarization(momentum, helicity):
    """A circular one, transverse to the direction of the momentum."""
    direction = momentum[1:] / np.linalg.norm(momentum[1:])
    first = np.cross(direction, [0.3, 0.5, -0.8])
    first /= np.linalg.norm(first)
    second = np.cross(direction, first)
    return np.array([0.0, *(first - 1j * helicity * second)]) / np.sqrt(2)


def generators():
    found = np.zeros((8, 3, 3), dtype=complex)
    for number, (i, j, value) in enumerate(
        [(0, 1, 1), (0, 1, -1j), (0, 2, 1), (0, 2, -1j), (1, 2, 1), (1, 2, -1j)]
    ):
        found[number, i, j], found[number, j, i] = value, np.conj(value)
    found[6] = np.diag([1, -1, 0])
    found[7] = np.diag([1, 1, -2]) / np.sqrt(3)
    return found / np.sqrt(2)  # Tr(T^a T^b) = delta


def traces(n):
    """Tr(T^a1 ... T^an) with axes by gluon."""
    t = generators()
    chain = t
    for _ in range(n - 1):
        chain = np.einsum("...ij,ajk->...aik", chain, t)
    return np.einsum("...ii->...", chain)


def by_recursion(momenta, helicities):
    """The sum over colours of one amplitude with these helicities, by traces of all orders."""
    n = len(momenta)
    signed = np.concatenate([-momenta[:2], momenta[2:]])
    polarizations = [polarization(p, h) for p, h in zip(momenta, helicities, strict=True)]
    trace = traces(n)
    total = np.zeros(trace.shape, dtype=complex)
    for inner in itertools.permutations(range(1, n)):
        order = (0, *inner)
        amplitude = ordered_amplitude(signed[list(order)], [polarizations[i] for i in order])
        total += amplitude * np.transpose(trace, np.argsort(order))
    return (np.abs(total) ** 2).sum()


@pytest.mark.parametrize("n", [4, 5, pytest.param(6, marks=pytest.mark.slow)])
def test_feynman_rules(n):
    """All helicities with two of one kind, from vertices, polarizations and generators."""
    (momenta,), (ours,) = events("g" * n, 1)
    unit = momenta[0, 0]
    total = 0.0
    for pair in itertools.combinations(range(n), 2):
        for sign in (1, -1) if n > 4 else (1,):
            helicities = [-sign if i in pair else sign for i in range(n)]
            total += by_recursion(momenta / unit, helicities)
    expected = STRONG ** (n - 2) * total / 256 * unit ** (8 - 2 * n)
    assert ours == pytest.approx(expected, rel=1e-9)


def test_helicities_without_an_amplitude():
    """That the check above would see wrong relative signs of the vertices."""
    (momenta,), _ = events("ggggg", 1)
    momenta = momenta / momenta[0, 0]
    right = by_recursion(momenta, [-1, -1, 1, 1, 1])
    for helicities in ([1, 1, 1, 1, 1], [-1, 1, 1, 1, 1]):
        assert by_recursion(momenta, helicities) < 1e-20 * right


def gammas():
    zero, one = np.zeros((2, 2)), np.eye(2)
    pauli = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
    found = [np.block([[zero, one], [one, zero]]).astype(complex)]
    found += [np.block([[zero, s], [-s, zero]]) for s in pauli]
    return np.array(found)


def test_quarks_to_a_z_boson_and_a_gluon():
    """Traces of Dirac matrices, with sums over polarizations."""
    momenta, ours = events("zg", 1000)
    gamma = gammas()
    gamma5 = 1j * gamma[0] @ gamma[1] @ gamma[2] @ gamma[3]
    lower = np.diag(METRIC)
    weak = gamma @ (z_boson.VECTOR * np.eye(4) - z_boson.AXIAL * gamma5)

    def slash(p):
        return np.einsum("nm,m,mij->nij", p, lower, gamma)

    q, qbar, z, g = np.moveaxis(momenta, 1, 0)
    first, second = q - g, q - z

    def over_square(p):
        return slash(p) / np.einsum("nm,m,nm->n", p, lower, p)[:, None, None]

    vertex = np.einsum("zij,njk,gkl->nzgil", weak, over_square(first), gamma)
    vertex += np.einsum("gij,njk,zkl->nzgil", gamma, over_square(second), weak)
    barred = gamma[0] @ np.conj(np.swapaxes(vertex, -1, -2)) @ gamma[0]
    of_z = -METRIC + np.einsum("nm,m,nk,k->nmk", z, lower, z, lower) / z_boson.MASS**2
    total = np.einsum(
        "nij,nzgjk,nkl,nyhli,nzy,gh->n", slash(qbar), vertex, slash(q), barred, of_z, -METRIC,
        optimize=True,
    )  # fmt: skip
    expected = STRONG * 4 / 36 * total.real
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


@pytest.mark.parametrize("name", PROCESSES)
def test_momenta(name):
    momenta, amplitudes = events(name, 1000)
    process = PROCESSES[name]
    energy = momenta[:, 0, 0] * 2
    missing = momenta[:, :2].sum(axis=1) - momenta[:, 2:].sum(axis=1)
    assert np.abs(missing / energy[:, None]).max() <= 1e-9
    m2 = np.einsum("nim,mk,nik->ni", momenta, METRIC, momenta)
    assert np.abs((m2 - np.square(process.masses)) / energy[:, None] ** 2).max() <= 1e-14
    assert (amplitudes > 0).all() and np.isfinite(amplitudes).all()
    assert 500 <= energy.min() and energy.max() <= 1500
    jets = momenta[:, process.jets]
    assert np.hypot(jets[..., 1], jets[..., 2]).min() > 20


@pytest.mark.parametrize("name", PROCESSES)
def test_invariant_under_lorentz_transformations(name):
    momenta, amplitudes = events(name, 200)
    matrix = lorentz.random_transformation(1.0).numpy()
    turned = PROCESSES[name].squared_amplitude(momenta @ matrix.T)
    np.testing.assert_allclose(turned, amplitudes, rtol=1e-8)


@pytest.mark.parametrize("name", ["gggg", "ggggg", "gggggg"])
def test_gluons_are_alike(name):
    momenta, amplitudes = events(name, 200)
    n = momenta.shape[1]
    order = [1, 0, *reversed(range(2, n))]
    swapped = gluons.squared_amplitude(momenta[:, order])
    np.testing.assert_allclose(swapped, amplitudes, rtol=1e-9)


def test_flat_phase_space():
    """Shares of energy of three massless particles are uniform in the Dalitz triangle."""
    random = np.random.default_rng(1)
    momenta = phase_space.massless(np.full(100_000, 10.0), 3, random)
    x = momenta[..., 0] / 5.0
    # The density of one share is 2 x, so that its square is uniform.
    counts, _ = np.histogram(x[:, 0] ** 2, bins=10, range=(0, 1))
    assert np.abs(counts - 10_000).max() < 500
    cos = momenta[:, 0, 3] / momenta[:, 0, 0]
    assert abs(cos.mean()) < 0.01 and abs((cos**2).mean() - 1 / 3) < 0.01


def test_the_first_events_do_not_depend_on_how_many_there_are():
    few, many = events("ggggg", 100)[0], events("ggggg", 25_000)[0]
    assert np.array_equal(few, many[:100])


@pytest.mark.parametrize("n", [4, 5, 6])
def test_colours(n):
    """The diagonal of the matrix is that of chains of loops: (2 N)^(n-2) (N^2 - 1)."""
    matrix = gluons.colour_matrix(n)
    expected = (2 * COLOURS) ** (n - 2) * (COLOURS**2 - 1)
    np.testing.assert_allclose(np.diag(matrix), expected)
    assert np.allclose(matrix, matrix.T)
