// The equivariant layer norm in one pass, and its gradient.
//
// Legend: T tokens, C multivector channels, S scalar channels.

#include "common.h"

namespace {

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

}  // namespace

extern "C" {

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

}
