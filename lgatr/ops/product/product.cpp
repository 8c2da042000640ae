// The geometric product in Weyl components, in one pass, and both its gradients; the algebra is
// described in __init__.py.
//
// Legend: T tokens, C multivector channels.

#include "common.h"

namespace {

struct Complex {
    T re, im;
};

INLINE Complex operator+(Complex x, Complex y) {
    return {x.re + y.re, x.im + y.im};
}

INLINE Complex operator-(Complex x, Complex y) {
    return {x.re - y.re, x.im - y.im};
}

INLINE Complex operator-(Complex x) {
    return {-x.re, -x.im};
}

INLINE Complex operator*(Complex x, Complex y) {
    return {x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}

INLINE Complex conj(Complex x) {
    return {x.re, -x.im};
}

INLINE Complex times_i(Complex x) {
    return {-x.im, x.re};
}

// ((a, b), (c, d))
struct Matrix {
    Complex a, b, c, d;
};

INLINE Matrix operator*(Matrix x, Matrix y) {
    return {x.a * y.a + x.b * y.c, x.a * y.b + x.b * y.d, x.c * y.a + x.d * y.c,
            x.c * y.b + x.d * y.d};
}

INLINE Matrix operator+(Matrix x, Matrix y) {
    return {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d};
}

INLINE Matrix adjugate(Matrix x) {
    return {x.d, -x.b, -x.c, x.a};
}

INLINE Matrix dagger(Matrix x) {
    return {conj(x.a), conj(x.c), conj(x.b), conj(x.d)};
}

INLINE Matrix matrix_of(Complex x0, Complex x1, Complex x2, Complex x3) {
    return {x0 + x3, x1 + times_i(x2), x1 - times_i(x2), x0 - x3};
}

// x = even + e0 odd
struct Element {
    Matrix even, odd;
};

INLINE Element operator*(Element x, Element y) {
    return {x.even * y.even + adjugate(dagger(x.odd)) * y.odd,
            x.odd * y.even + adjugate(dagger(x.even)) * y.odd};
}

// The Hermitian conjugate, by which gradients multiply.
INLINE Element hermitian(Element x) {
    return {dagger(x.even), adjugate(x.odd)};
}

INLINE Complex pair(const T* row, Index c, Index channels) {
    return {row[c], row[c + channels]};
}

INLINE void put(T* row, Index c, Index channels, Complex x) {
    row[c] = T(0.5) * x.re, row[c + channels] = T(0.5) * x.im;
}

INLINE Element load(const Rows& x, Index c, Index n) {
    return {matrix_of(pair(x.z, c, n), pair(x.b0, c, n), pair(x.b1, c, n), pair(x.b2, c, n)),
            matrix_of(pair(x.v0, c, n), pair(x.v1, c, n), pair(x.v2, c, n), pair(x.v3, c, n))};
}

INLINE void store(T* r0, T* r1, T* r2, T* r3, Index c, Index n, Matrix x) {
    put(r0, c, n, x.a + x.d), put(r3, c, n, x.a - x.d);
    put(r1, c, n, x.b + x.c), put(r2, c, n, times_i(x.c - x.b));
}

INLINE void store(const Rows& x, Index c, Index n, Element y) {
    store(x.z, x.b0, x.b1, x.b2, c, n, y.even);
    store(x.v0, x.v1, x.v2, x.v3, c, n, y.odd);
}

void product(const State& x, const State& y, const State& out, Index tokens, Index channels) {
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Rows left(x, t), right(y, t), place(out, t);
        LANES for (Index c = 0; c < channels; ++c) store(
            place, c, channels, load(left, c, channels) * load(right, c, channels));
    }
}

void product_gradients(const State& x, const State& y, const State& grad, const State& of_x,
                       const State& of_y, Index tokens, Index channels) {
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Rows left(x, t), right(y, t), g(grad, t), to_x(of_x, t), to_y(of_y, t);
        LANES for (Index c = 0; c < channels; ++c) store(
            to_x, c, channels, load(g, c, channels) * hermitian(load(right, c, channels)));
        LANES for (Index c = 0; c < channels; ++c) store(
            to_y, c, channels, hermitian(load(left, c, channels)) * load(g, c, channels));
    }
}

}  // namespace

extern "C" {

void lgatr_product(const State* x, const State* y, const State* out, Index tokens,
                   Index channels) {
    product(*x, *y, *out, tokens, channels);
}

void lgatr_product_gradients(const State* x, const State* y, const State* grad, const State* of_x,
                             const State* of_y, Index tokens, Index channels) {
    product_gradients(*x, *y, *grad, *of_x, *of_y, tokens, channels);
}

}
