// Between matrix products and attention heads: norm of each head, signs, flattening, and back.
//
// Legend: T tokens, N heads of all parts, w numbers of a row of pairs in a head, S scalars of a head.

#include "common.h"

namespace {

// A head holds its eight rows of w numbers, the first of them
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

}
