// Kernels for CPUs: geometric product, layer norm, heads and gates, each in one pass.
//
// Built on first use by lgatr/kernels/native_build.py; nothing but the C++ standard library is needed.
// Legend: T tokens, C multivector channels, w = 2 C numbers of a row of pairs, S scalar channels.
// A state is z (T, w + S), v (4, T, w), b (3, T, w): channels lie side by side, rows and tokens at
// any distance. Sums over tokens are taken in a fixed number of pieces, so that results do not
// depend on the number of threads.

#include "native.h"

namespace {

// As laid out by ctypes in native.py.
struct State {
    void* z;
    void* v;
    void* b;
    Index z_token, v_row, v_token, b_row, b_token;
};

// The eight rows of one token.
struct Rows {
    T *z, *v0, *v1, *v2, *v3, *b0, *b1, *b2;

    Rows(const State& x, Index t) {
        z = static_cast<T*>(x.z) + t * x.z_token;
        v0 = static_cast<T*>(x.v) + t * x.v_token;
        v1 = v0 + x.v_row, v2 = v1 + x.v_row, v3 = v2 + x.v_row;
        b0 = static_cast<T*>(x.b) + t * x.b_token;
        b1 = b0 + x.b_row, b2 = b1 + x.b_row;
    }
};

// Unlike std::fmax this keeps what is not a number.
INLINE T floored(T x, T floor) { return x < floor ? floor : x; }

INLINE T vector_square(T a, T b, T c, T d) {
    return a * a - b * b - c * c - d * d;
}

INLINE T sum_of_squares(T a, T b, T c) {
    return a * a + b * b + c * c;
}

// ---------------------------------------------------------------------------------------------
// The geometric product in Weyl components; see lgatr/kernels/weyl.py for the algebra.

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

void product(const State& x, const State& y, const State& out, Index tokens, Index channels,
             bool x_hermitian, bool y_hermitian) {
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Rows left(x, t), right(y, t), place(out, t);
        if (x_hermitian) {
            LANES for (Index c = 0; c < channels; ++c) store(
                place, c, channels, hermitian(load(left, c, channels)) * load(right, c, channels));
        } else if (y_hermitian) {
            LANES for (Index c = 0; c < channels; ++c) store(
                place, c, channels, load(left, c, channels) * hermitian(load(right, c, channels)));
        } else {
            LANES for (Index c = 0; c < channels; ++c) store(
                place, c, channels, load(left, c, channels) * load(right, c, channels));
        }
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

// ---------------------------------------------------------------------------------------------
// The layer norm of scalars.

INLINE void scalar_moments(const T* s, Index n, T epsilon, T& mean, T& deviation) {
    T sum = 0, squares = 0;
    for (Index i = 0; i < n; ++i) sum += s[i];
    mean = sum / T(n);
    for (Index i = 0; i < n; ++i) squares += (s[i] - mean) * (s[i] - mean);
    deviation = T(1) / std::sqrt(squares / T(n) + epsilon);
}

// From the gradient g of y = (x - mean) r, to that of x.
template <class Y, class G>
INLINE void scalar_gradient(Y y, G g, T* out, Index n, T r) {
    T first = 0, second = 0;
    for (Index i = 0; i < n; ++i) first += g(i), second += g(i) * y(i);
    first /= T(n), second /= T(n);
    for (Index i = 0; i < n; ++i) out[i] = r * (g(i) - first - y(i) * second);
}

// ---------------------------------------------------------------------------------------------
// The equivariant layer norm; see lgatr/kernels/norm.py.

// The gains (5, C) by grade, or one.
template <bool Gains>
INLINE T gain_of(const T* weight, Index c, Index n, int grade) {
    return Gains ? weight[grade * n + c] : T(1);
}

struct Norm {
    const T *weight, *weight_s;
    Index channels, scalars;
    T epsilon, gain, epsilon_s;
};

INLINE T squared_norm(const Rows& x, Index c, Index n) {
    const Index d = c + n;
    return x.z[c] * x.z[c] + x.z[d] * x.z[d] +
           std::abs(vector_square(x.v0[c], x.v1[c], x.v2[c], x.v3[c])) +
           std::abs(vector_square(x.v0[d], x.v1[d], x.v2[d], x.v3[d])) +
           std::abs(sum_of_squares(x.b0[d], x.b1[d], x.b2[d]) -
                    sum_of_squares(x.b0[c], x.b1[c], x.b2[c]));
}

template <bool Gains>
void norm(const State& x, const State& out, T* factor, T* mean, T* deviation, Norm p,
          Index tokens) {
    const Index n = p.channels;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Rows from(x, t), to(out, t);
        T total = 0;
        for (Index c = 0; c < n; ++c) total += squared_norm(from, c, n);
        factor[t] = T(1) / std::sqrt(floored(total / T(n), p.epsilon));
        const T f = factor[t] * p.gain;
        LANES for (Index c = 0; c < n; ++c) {
            const Index d = c + n;
            const T f1 = f * gain_of<Gains>(p.weight, c, n, 1), f2 = f * gain_of<Gains>(p.weight, c, n, 2);
            const T f3 = f * gain_of<Gains>(p.weight, c, n, 3);
            to.z[c] = from.z[c] * f * gain_of<Gains>(p.weight, c, n, 0);
            to.z[d] = from.z[d] * f * gain_of<Gains>(p.weight, c, n, 4);
            to.v0[c] = from.v0[c] * f1, to.v1[c] = from.v1[c] * f1;
            to.v2[c] = from.v2[c] * f1, to.v3[c] = from.v3[c] * f1;
            to.v0[d] = from.v0[d] * f3, to.v1[d] = from.v1[d] * f3;
            to.v2[d] = from.v2[d] * f3, to.v3[d] = from.v3[d] * f3;
            to.b0[c] = from.b0[c] * f2, to.b1[c] = from.b1[c] * f2, to.b2[c] = from.b2[c] * f2;
            to.b0[d] = from.b0[d] * f2, to.b1[d] = from.b1[d] * f2, to.b2[d] = from.b2[d] * f2;
        }
        if (p.scalars) {
            const T* s = from.z + 2 * n;
            T* y = to.z + 2 * n;
            scalar_moments(s, p.scalars, p.epsilon_s, mean[t], deviation[t]);
            for (Index i = 0; i < p.scalars; ++i)
                y[i] = (s[i] - mean[t]) * deviation[t] * (p.weight_s ? p.weight_s[i] : T(1));
        }
    }
}

// g + signs of the metric; `change` has the sign of the square and what comes through the norm.
INLINE void norm_gradient_half(const Rows& x, const Rows& g, const Rows& out, Index i,
                               T scale_z, T scale_v, T scale_b, T through, T change_b) {
    out.z[i] = g.z[i] * scale_z + x.z[i] * through;
    const T change = through * sign(vector_square(x.v0[i], x.v1[i], x.v2[i], x.v3[i]));
    out.v0[i] = g.v0[i] * scale_v + x.v0[i] * change;
    out.v1[i] = g.v1[i] * scale_v - x.v1[i] * change;
    out.v2[i] = g.v2[i] * scale_v - x.v2[i] * change;
    out.v3[i] = g.v3[i] * scale_v - x.v3[i] * change;
    out.b0[i] = g.b0[i] * scale_b + x.b0[i] * change_b;
    out.b1[i] = g.b1[i] * scale_b + x.b1[i] * change_b;
    out.b2[i] = g.b2[i] * scale_b + x.b2[i] * change_b;
}

// Sums of products of the coefficients of each grade.
struct Grades {
    T p0, p1, p2, p3, p4;
};

INLINE Grades grade_products(const Rows& x, const Rows& y, Index c, Index n) {
    const Index d = c + n;
    return {x.z[c] * y.z[c],
            x.v0[c] * y.v0[c] + x.v1[c] * y.v1[c] + x.v2[c] * y.v2[c] + x.v3[c] * y.v3[c],
            x.b0[c] * y.b0[c] + x.b1[c] * y.b1[c] + x.b2[c] * y.b2[c] + x.b0[d] * y.b0[d] +
                x.b1[d] * y.b1[d] + x.b2[d] * y.b2[d],
            x.v0[d] * y.v0[d] + x.v1[d] * y.v1[d] + x.v2[d] * y.v2[d] + x.v3[d] * y.v3[d],
            x.z[d] * y.z[d]};
}

// With `from_outputs`, x holds the outputs y = f x, and p has no gains.
template <bool Gains>
void norm_gradients(const State& x, const State& grad, const State& out, const T* factor,
                    const T* mean, const T* deviation, T* of_weight, T* of_weight_s, Norm p,
                    T limit, bool from_outputs, Index tokens, Index pieces) {
    const Index n = p.channels, size = (tokens + pieces - 1) / pieces;
#pragma omp parallel for if (tokens > few)
    for (Index piece = 0; piece < pieces; ++piece) {
        T* dw = of_weight ? of_weight + piece * 5 * n : nullptr;
        T* ds = of_weight_s ? of_weight_s + piece * p.scalars : nullptr;
        const Index end = (piece + 1) * size < tokens ? (piece + 1) * size : tokens;
        for (Index t = piece * size; t < end; ++t) {
            const Rows a(x, t), g(grad, t), to(out, t);
            const T f = factor[t], scale = f * p.gain;
            T inner = 0;
            for (Index c = 0; c < n; ++c) {
                const Grades d = grade_products(g, a, c, n);
                inner += d.p0 * gain_of<Gains>(p.weight, c, n, 0) +
                         d.p1 * gain_of<Gains>(p.weight, c, n, 1) +
                         d.p2 * gain_of<Gains>(p.weight, c, n, 2) +
                         d.p3 * gain_of<Gains>(p.weight, c, n, 3) +
                         d.p4 * gain_of<Gains>(p.weight, c, n, 4);
            }
            if (Gains && dw) {
                LANES for (Index c = 0; c < n; ++c) {
                    const Grades d = grade_products(g, a, c, n);
                    dw[c] += scale * d.p0, dw[n + c] += scale * d.p1;
                    dw[2 * n + c] += scale * d.p2, dw[3 * n + c] += scale * d.p3;
                    dw[4 * n + c] += scale * d.p4;
                }
            }
            const T power = from_outputs ? f / p.gain : f * f * f * p.gain;
            const T through = f < limit ? -power * inner / T(n) : T(0);
            LANES for (Index c = 0; c < n; ++c) {
                const Index d = c + n;
                const T s2 = scale * gain_of<Gains>(p.weight, c, n, 2);
                const T change = through * sign(sum_of_squares(a.b0[d], a.b1[d], a.b2[d]) -
                                                sum_of_squares(a.b0[c], a.b1[c], a.b2[c]));
                norm_gradient_half(a, g, to, c, scale * gain_of<Gains>(p.weight, c, n, 0),
                                   scale * gain_of<Gains>(p.weight, c, n, 1), s2, through, -change);
                norm_gradient_half(a, g, to, d, scale * gain_of<Gains>(p.weight, c, n, 4),
                                   scale * gain_of<Gains>(p.weight, c, n, 3), s2, through, change);
            }
            if (p.scalars) {
                const T *s = a.z + 2 * n, *h = g.z + 2 * n, *w = p.weight_s;
                const T m = from_outputs ? T(0) : mean[t], r = from_outputs ? T(1) : deviation[t];
                const auto y = [=](Index i) { return (s[i] - m) * r; };
                if (ds)
                    for (Index i = 0; i < p.scalars; ++i) ds[i] += h[i] * y(i);
                if (w)
                    scalar_gradient(y, [=](Index i) { return h[i] * w[i]; }, to.z + 2 * n,
                                    p.scalars, deviation[t]);
                else
                    scalar_gradient(y, [=](Index i) { return h[i]; }, to.z + 2 * n, p.scalars,
                                    deviation[t]);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Heads; see lgatr/kernels/heads.py. A head holds its eight rows of w numbers, the first of them
// followed by its scalars. In the state, a head's part of z is w + S long and of the others w.

struct Head {
    Index groups, width, scalars;
    T epsilon, epsilon_s;  // no norm if epsilon is negative
};

// W is the width where it is known to the compiler, else 0.
template <int W>
void heads(const State& x, T* out, T* factor, T* deviation, Head p, Index per_part, Index metric,
           Index tokens) {
    const Index w = W ? W : p.width, c = w / 2, wide = 8 * w + p.scalars;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Rows all(x, t);
        for (Index n = 0; n < p.groups; ++n) {
            const T* z = all.z + n * (w + p.scalars);
            const T *v0 = all.v0 + n * w, *v1 = all.v1 + n * w, *v2 = all.v2 + n * w;
            const T *v3 = all.v3 + n * w, *b0 = all.b0 + n * w, *b1 = all.b1 + n * w;
            const T* b2 = all.b2 + n * w;
            T* to = out + (t * p.groups + n) * wide;
            T f = 1;
            if (p.epsilon >= 0) {
                T total = 0;
                for (Index i = 0; i < w; ++i)
                    total += z[i] * z[i] + std::abs(vector_square(v0[i], v1[i], v2[i], v3[i]));
                for (Index i = 0; i < c; ++i)
                    total += std::abs(sum_of_squares(b0[i + c], b1[i + c], b2[i + c]) -
                                      sum_of_squares(b0[i], b1[i], b2[i]));
                f = T(1) / std::sqrt(floored(total / T(c), p.epsilon));
            }
            factor[t * p.groups + n] = f;
            const T negative = has_metric(metric, n / per_part) ? -f : f;
            T *u0 = to + w + p.scalars, *u1 = u0 + w, *u2 = u1 + w, *u3 = u2 + w;
            T *a0 = u3 + w, *a1 = a0 + w, *a2 = a1 + w;
            LANES for (Index i = 0; i < c; ++i) {
                to[i] = z[i] * f, to[i + c] = z[i + c] * negative;
                u0[i] = v0[i] * f, u0[i + c] = v0[i + c] * negative;
                u1[i] = v1[i] * negative, u1[i + c] = v1[i + c] * f;
                u2[i] = v2[i] * negative, u2[i + c] = v2[i + c] * f;
                u3[i] = v3[i] * negative, u3[i + c] = v3[i + c] * f;
                a0[i] = b0[i] * negative, a0[i + c] = b0[i + c] * f;
                a1[i] = b1[i] * negative, a1[i + c] = b1[i + c] * f;
                a2[i] = b2[i] * negative, a2[i + c] = b2[i + c] * f;
            }
            if (p.scalars) {
                const T* s = z + w;
                T mean = 0, r = 1;
                if (p.epsilon >= 0) scalar_moments(s, p.scalars, p.epsilon_s, mean, r);
                deviation[t * p.groups + n] = r;
                for (Index i = 0; i < p.scalars; ++i) to[w + i] = (s[i] - mean) * r;
            }
        }
    }
}

// From heads h and their gradients to the gradient of the state.
template <int W>
void heads_gradient(const T* h, const T* grad, const State& out, const T* factor,
                    const T* deviation, Head p, Index per_part, Index metric, T limit,
                    Index tokens) {
    const Index w = W ? W : p.width, c = w / 2, wide = 8 * w + p.scalars;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Rows all(out, t);
        for (Index n = 0; n < p.groups; ++n) {
            const T *y = h + (t * p.groups + n) * wide, *g = grad + (t * p.groups + n) * wide;
            T* z = all.z + n * (w + p.scalars);
            T *v0 = all.v0 + n * w, *v1 = all.v1 + n * w, *v2 = all.v2 + n * w;
            T *v3 = all.v3 + n * w, *b0 = all.b0 + n * w, *b1 = all.b1 + n * w;
            T* b2 = all.b2 + n * w;
            const Index skip = w + p.scalars;
            const T *y0 = y + skip, *y1 = y0 + w, *y2 = y1 + w, *y3 = y2 + w;
            const T *d0 = y3 + w, *d1 = d0 + w, *d2 = d1 + w;
            const T *g0 = g + skip, *g1 = g0 + w, *g2 = g1 + w, *g3 = g2 + w;
            const T *e0 = g3 + w, *e1 = e0 + w, *e2 = e1 + w;
            const T f = factor[t * p.groups + n];
            T through = 0;
            if (p.epsilon >= 0 && f < limit) {
                T inner = 0;
                for (Index i = 0; i < w; ++i)
                    inner += g[i] * y[i] + g0[i] * y0[i] + g1[i] * y1[i] + g2[i] * y2[i] +
                             g3[i] * y3[i] + e0[i] * d0[i] + e1[i] * d1[i] + e2[i] * d2[i];
                through = -f * inner / T(c);
            }
            // y = f s x with the metric's signs s, and x's own signs are those of y's squares.
            const T m = has_metric(metric, n / per_part) ? T(-1) : T(1);
            const T mf = m * f, mt = m * through;
            LANES for (Index i = 0; i < c; ++i) {
                const Index j = i + c;
                z[i] = g[i] * f + y[i] * through, z[j] = g[j] * mf + y[j] * mt;
                const T first = sign(vector_square(y0[i], y1[i], y2[i], y3[i]));
                const T second = sign(vector_square(y0[j], y1[j], y2[j], y3[j]));
                v0[i] = g0[i] * f + y0[i] * first * through;
                v1[i] = g1[i] * mf - y1[i] * first * mt;
                v2[i] = g2[i] * mf - y2[i] * first * mt;
                v3[i] = g3[i] * mf - y3[i] * first * mt;
                v0[j] = g0[j] * mf + y0[j] * second * mt;
                v1[j] = g1[j] * f - y1[j] * second * through;
                v2[j] = g2[j] * f - y2[j] * second * through;
                v3[j] = g3[j] * f - y3[j] * second * through;
                const T axial = sign(sum_of_squares(d0[j], d1[j], d2[j]) -
                                     sum_of_squares(d0[i], d1[i], d2[i]));
                b0[i] = e0[i] * mf - d0[i] * axial * mt, b0[j] = e0[j] * f + d0[j] * axial * through;
                b1[i] = e1[i] * mf - d1[i] * axial * mt, b1[j] = e1[j] * f + d1[j] * axial * through;
                b2[i] = e2[i] * mf - d2[i] * axial * mt, b2[j] = e2[j] * f + d2[j] * axial * through;
            }
            if (p.scalars) {
                const T *s = y + w, *k = g + w;
                if (p.epsilon >= 0)
                    scalar_gradient([=](Index i) { return s[i]; }, [=](Index i) { return k[i]; },
                                    z + w, p.scalars, deviation[t * p.groups + n]);
                else
                    for (Index i = 0; i < p.scalars; ++i) z[w + i] = k[i];
            }
        }
    }
}

// The rows of each head side by side, or back.
template <int W, bool Back>
void move_heads(T* packed, const State& x, Index groups, Index width, Index scalars, Index tokens) {
    const Index w = W ? W : width, split = w + scalars, wide = 8 * w + scalars;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Rows all(x, t);
        T* const rows[7] = {all.v0, all.v1, all.v2, all.v3, all.b0, all.b1, all.b2};
        for (Index n = 0; n < groups; ++n) {
            T *h = packed + (t * groups + n) * wide, *z = all.z + n * split;
            for (Index i = 0; i < split; ++i) Back ? h[i] = z[i] : z[i] = h[i];
            h += split;
            for (T* row : rows) {
                T* r = row + n * w;
                for (Index i = 0; i < w; ++i) Back ? h[i] = r[i] : r[i] = h[i];
                h += w;
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Gates; see lgatr/kernels/gate.py. The gate (T, C) multiplies each multivector.

INLINE void gate_row(const T* from, T* to, const T* gate, Index n) {
    LANES for (Index c = 0; c < n; ++c) to[c] = from[c] * gate[c], to[c + n] = from[c + n] * gate[c];
}

void gate(const State& x, const T* g, const State& out, Index tokens, Index n) {
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Rows from(x, t), to(out, t);
        const T* h = g + t * n;
        gate_row(from.z, to.z, h, n);
        gate_row(from.v0, to.v0, h, n), gate_row(from.v1, to.v1, h, n);
        gate_row(from.v2, to.v2, h, n), gate_row(from.v3, to.v3, h, n);
        gate_row(from.b0, to.b0, h, n), gate_row(from.b1, to.b1, h, n);
        gate_row(from.b2, to.b2, h, n);
    }
}

// The gradient of the gate is the sum over the sixteen coefficients.
void gate_gradient(const State& x, const T* gates, const State& grad, const State& out, T* of_gate,
                   Index tokens, Index n) {
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Rows a(x, t), g(grad, t), to(out, t);
        const T* h = gates + t * n;
        T* sum = of_gate + t * n;
        LANES for (Index c = 0; c < n; ++c) {
            const Index d = c + n;
            sum[c] = g.z[c] * a.z[c] + g.z[d] * a.z[d] + g.v0[c] * a.v0[c] + g.v0[d] * a.v0[d] +
                     g.v1[c] * a.v1[c] + g.v1[d] * a.v1[d] + g.v2[c] * a.v2[c] +
                     g.v2[d] * a.v2[d] + g.v3[c] * a.v3[c] + g.v3[d] * a.v3[d] +
                     g.b0[c] * a.b0[c] + g.b0[d] * a.b0[d] + g.b1[c] * a.b1[c] +
                     g.b1[d] * a.b1[d] + g.b2[c] * a.b2[c] + g.b2[d] * a.b2[d];
        }
        gate_row(g.z, to.z, h, n);
        gate_row(g.v0, to.v0, h, n), gate_row(g.v1, to.v1, h, n);
        gate_row(g.v2, to.v2, h, n), gate_row(g.v3, to.v3, h, n);
        gate_row(g.b0, to.b0, h, n), gate_row(g.b1, to.b1, h, n);
        gate_row(g.b2, to.b2, h, n);
    }
}

// Heads are short: known widths let the compiler unroll their loops.
template <class Call>
INLINE void by_width(Index width, Call call) {
    switch (width) {
        case 4: return call(std::integral_constant<int, 4>());
        case 8: return call(std::integral_constant<int, 8>());
        case 16: return call(std::integral_constant<int, 16>());
        case 32: return call(std::integral_constant<int, 32>());
        default: return call(std::integral_constant<int, 0>());
    }
}

}  // namespace

extern "C" {

void lgatr_product(const State* x, const State* y, const State* out, Index tokens, Index channels,
                   Index x_hermitian, Index y_hermitian) {
    product(*x, *y, *out, tokens, channels, x_hermitian, y_hermitian);
}

void lgatr_product_gradients(const State* x, const State* y, const State* grad, const State* of_x,
                             const State* of_y, Index tokens, Index channels) {
    product_gradients(*x, *y, *grad, *of_x, *of_y, tokens, channels);
}

void lgatr_norm(const State* x, const State* out, T* factor, T* mean, T* deviation,
                const T* weight, const T* weight_s, Index tokens, Index channels, Index scalars,
                double epsilon, double gain, double epsilon_s) {
    const auto run = weight ? norm<true> : norm<false>;
    run(*x, *out, factor, mean, deviation,
        {weight, weight_s, channels, scalars, T(epsilon), T(gain), T(epsilon_s)}, tokens);
}

void lgatr_norm_gradients(const State* x, const State* grad, const State* out, const T* factor,
                          const T* mean, const T* deviation, const T* weight, const T* weight_s,
                          T* of_weight, T* of_weight_s, Index tokens, Index channels,
                          Index scalars, double gain, double limit, Index from_outputs,
                          Index pieces) {
    const auto run = weight ? norm_gradients<true> : norm_gradients<false>;
    run(*x, *grad, *out, factor, mean, deviation, of_weight, of_weight_s,
        {weight, weight_s, channels, scalars, T(0), T(gain), T(0)}, T(limit), from_outputs, tokens,
        pieces);
}

void lgatr_heads(const State* x, T* out, T* factor, T* deviation, Index tokens, Index groups,
                 Index width, Index scalars, double epsilon, double epsilon_s, Index per_part,
                 Index metric) {
    const Head p{groups, width, scalars, T(epsilon), T(epsilon_s)};
    by_width(width, [&](auto known) {
        heads<known>(*x, out, factor, deviation, p, per_part, metric, tokens);
    });
}

void lgatr_heads_gradient(const T* h, const T* grad, const State* out, const T* factor,
                          const T* deviation, Index tokens, Index groups, Index width,
                          Index scalars, double epsilon, double limit, Index per_part,
                          Index metric) {
    const Head p{groups, width, scalars, T(epsilon), T(0)};
    by_width(width, [&](auto known) {
        heads_gradient<known>(h, grad, *out, factor, deviation, p, per_part, metric, T(limit),
                              tokens);
    });
}

void lgatr_from_heads(T* packed, const State* x, Index tokens, Index groups, Index width,
                      Index scalars) {
    by_width(width, [&](auto known) {
        move_heads<known, false>(packed, *x, groups, width, scalars, tokens);
    });
}

void lgatr_to_heads(T* packed, const State* x, Index tokens, Index groups, Index width,
                    Index scalars) {
    by_width(width, [&](auto known) {
        move_heads<known, true>(packed, *x, groups, width, scalars, tokens);
    });
}

void lgatr_gate(const State* x, const T* gates, const State* out, Index tokens, Index channels) {
    gate(*x, gates, *out, tokens, channels);
}

void lgatr_gate_gradient(const State* x, const T* gates, const State* grad, const State* out,
                         T* of_gate, Index tokens, Index channels) {
    gate_gradient(*x, gates, *grad, *out, of_gate, tokens, channels);
}
}
