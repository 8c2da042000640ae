// The joint norm of four-vectors and scalars in one pass, and its gradient.
//
// Legend: T tokens, C vector channels, S scalar channels.

#include "vectors.h"

extern "C" {

void lgatr_slim_norm(const T* v, const T* s, const T* weight_v, const T* weight_s, T* out_v,
                     T* out_s, T* factor, Index tokens, Index channels, Index scalars,
                     double epsilon) {
    const Index c = channels, n = scalars;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Vectors from(v + 4 * t * c, c), to(out_v + 4 * t * c, c);
        const T *from_s = s + t * n, total = sum_of_absolute_squares(from, from_s, c, n);
        const T f = T(1) / std::sqrt(total / T(c + n) + T(epsilon));
        factor[t] = f;
        LANES for (Index i = 0; i < c; ++i) {
            const T w = weight_v ? f * weight_v[i] : f;
            to.e[i] = from.e[i] * w, to.x[i] = from.x[i] * w;
            to.y[i] = from.y[i] * w, to.z[i] = from.z[i] * w;
        }
        LANES for (Index i = 0; i < n; ++i)
            out_s[t * n + i] = from_s[i] * (weight_s ? f * weight_s[i] : f);
    }
}

void lgatr_slim_norm_gradients(const T* v, const T* s, const T* gv, const T* gs, const T* factor,
                               const T* weight_v, const T* weight_s, T* of_v, T* of_s,
                               T* of_weight_v, T* of_weight_s, Index tokens, Index channels,
                               Index scalars, Index pieces) {
    const Index c = channels, n = scalars, size = (tokens + pieces - 1) / pieces;
#pragma omp parallel for if (tokens > few)
    for (Index piece = 0; piece < pieces; ++piece) {
        T* dw = of_weight_v ? of_weight_v + piece * c : nullptr;
        T* ds = of_weight_s ? of_weight_s + piece * n : nullptr;
        const Index end = (piece + 1) * size < tokens ? (piece + 1) * size : tokens;
        for (Index t = piece * size; t < end; ++t) {
            const Vectors x(v + 4 * t * c, c), g(gv + 4 * t * c, c), to(of_v + 4 * t * c, c);
            const T *x_s = s + t * n, *g_s = gs + t * n, f = factor[t];
            T inner = 0;
            for (Index i = 0; i < c; ++i) inner += dot(g, x, i) * (weight_v ? weight_v[i] : T(1));
            for (Index i = 0; i < n; ++i) inner += g_s[i] * x_s[i] * (weight_s ? weight_s[i] : T(1));
            if (dw)
                LANES for (Index i = 0; i < c; ++i) dw[i] += f * dot(g, x, i);
            if (ds)
                LANES for (Index i = 0; i < n; ++i) ds[i] += f * g_s[i] * x_s[i];
            const T back = -f * f * f * inner / T(c + n);
            LANES for (Index i = 0; i < c; ++i) {
                const T w = weight_v ? f * weight_v[i] : f, change = back * sign(product(x, x, i));
                add_scaled(to.e, g.e, x.e, i, w, change);
                add_scaled(to.x, g.x, x.x, i, w, -change);
                add_scaled(to.y, g.y, x.y, i, w, -change);
                add_scaled(to.z, g.z, x.z, i, w, -change);
            }
            LANES for (Index i = 0; i < n; ++i)
                of_s[t * n + i] = g_s[i] * (weight_s ? f * weight_s[i] : f) + x_s[i] * back;
        }
    }
}

}
