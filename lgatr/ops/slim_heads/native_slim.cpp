// Kernels of the slim networks for CPUs: norm, heads and gated units, each in one pass.
//
// Built on first use by lgatr/kernels/native_build.py. Vectors are (T, 4, C) and scalars (T, S),
// contiguous. Sums over tokens are taken in a fixed number of pieces, so that results do not depend
// on the number of threads.
// Legend: T tokens, C vector channels, S scalar channels, N heads of all parts, c and s channels of
// a head, D = 4 c + s, O outputs.

#include "native.h"

namespace {

// The components of some vectors, each `step` after the one before.
struct Vectors {
    T *e, *x, *y, *z;

    Vectors(const T* first, Index step) {
        e = const_cast<T*>(first);
        x = e + step, y = x + step, z = y + step;
    }
};

INLINE T product(const Vectors& a, const Vectors& b, Index i) {
    return a.e[i] * b.e[i] - a.x[i] * b.x[i] - a.y[i] * b.y[i] - a.z[i] * b.z[i];
}

INLINE T dot(const Vectors& a, const Vectors& b, Index i) {
    return a.e[i] * b.e[i] + a.x[i] * b.x[i] + a.y[i] * b.y[i] + a.z[i] * b.z[i];
}

// Sum of |v^2| and s^2.
INLINE T size(const Vectors& v, const T* s, Index c, Index n) {
    T total = 0;
    for (Index i = 0; i < c; ++i) total += std::abs(product(v, v, i));
    for (Index i = 0; i < n; ++i) total += s[i] * s[i];
    return total;
}

// Known widths let the compiler unroll the loops over a head.
template <class Call>
INLINE void by_width(Index width, Call call) {
    switch (width) {
        case 4: return call(std::integral_constant<int, 4>());
        case 8: return call(std::integral_constant<int, 8>());
        default: return call(std::integral_constant<int, 0>());
    }
}

// `out` gets scale g + change (eta v), for one component with the sign `eta`.
INLINE void through(T* out, const T* g, const T* v, Index i, T scale, T change) {
    out[i] = g[i] * scale + v[i] * change;
}

template <int W>
void heads(const T* v, const T* s, T* out, T* factor, Index tokens, Index groups, Index width,
           Index scalars, T epsilon, Index per_part, Index metric) {
    const Index c = W ? W : width, wide = 4 * c + scalars;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t)
        for (Index n = 0; n < groups; ++n) {
            const Vectors from(v + (4 * t * groups + n) * c, groups * c);
            const T* from_s = s + (t * groups + n) * scalars;
            T* to = out + (t * groups + n) * wide;
            const T total = size(from, from_s, c, scalars);
            const T f = T(1) / std::sqrt(total / T(c + scalars) + epsilon);
            const T later = has_metric(metric, n / per_part) ? -f : f;
            factor[t * groups + n] = f;
            LANES for (Index i = 0; i < c; ++i) {
                to[i] = from.e[i] * f;
                to[c + i] = from.x[i] * later;
                to[2 * c + i] = from.y[i] * later;
                to[3 * c + i] = from.z[i] * later;
            }
            LANES for (Index i = 0; i < scalars; ++i) to[4 * c + i] = from_s[i] * f;
        }
}

template <int W>
void heads_gradient(const T* h, const T* grad, const T* factor, T* of_v, T* of_s, Index tokens,
                    Index groups, Index width, Index scalars, Index per_part, Index metric) {
    const Index c = W ? W : width, wide = 4 * c + scalars;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t)
        for (Index n = 0; n < groups; ++n) {
            const Index place = (t * groups + n) * wide;
            const T *y = h + place, *g = grad + place, f = factor[t * groups + n];
            const Vectors v(y, c), gv(g, c), to(of_v + (4 * t * groups + n) * c, groups * c);
            T* to_s = of_s + (t * groups + n) * scalars;
            T inner = 0;
            for (Index i = 0; i < wide; ++i) inner += g[i] * y[i];
            const T back = -f * inner / T(c + scalars);
            const T later = has_metric(metric, n / per_part) ? T(-1) : T(1);
            LANES for (Index i = 0; i < c; ++i) {
                const T change = back * sign(product(v, v, i));
                through(to.e, gv.e, v.e, i, f, change);
                through(to.x, gv.x, v.x, i, later * f, -later * change);
                through(to.y, gv.y, v.y, i, later * f, -later * change);
                through(to.z, gv.z, v.z, i, later * f, -later * change);
            }
            LANES for (Index i = 0; i < scalars; ++i)
                to_s[i] = g[4 * c + i] * f + y[4 * c + i] * back;
        }
}

// Between heads (T, H, D) and vectors (T, 4, H c) with scalars (T, H s).
template <int W, bool Pack>
void move_heads(T* heads, T* v, T* s, Index tokens, Index groups, Index width, Index scalars) {
    const Index c = W ? W : width, wide = 4 * c + scalars;
    const auto move = [](T* packed, T* apart, Index count) {
        LANES for (Index i = 0; i < count; ++i) (Pack ? packed : apart)[i] =
            (Pack ? apart : packed)[i];
    };
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t)
        for (Index n = 0; n < groups; ++n) {
            T* head = heads + (t * groups + n) * wide;
            for (Index row = 0; row < 4; ++row)
                move(head + row * c, v + ((4 * t + row) * groups + n) * c, c);
            move(head + 4 * c, s + (t * groups + n) * scalars, scalars);
        }
}

}  // namespace

extern "C" {

void lgatr_slim_norm(const T* v, const T* s, const T* weight_v, const T* weight_s, T* out_v,
                     T* out_s, T* factor, Index tokens, Index channels, Index scalars,
                     double epsilon) {
    const Index c = channels, n = scalars;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Vectors from(v + 4 * t * c, c), to(out_v + 4 * t * c, c);
        const T *from_s = s + t * n, total = size(from, from_s, c, n);
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
                through(to.e, g.e, x.e, i, w, change);
                through(to.x, g.x, x.x, i, w, -change);
                through(to.y, g.y, x.y, i, w, -change);
                through(to.z, g.z, x.z, i, w, -change);
            }
            LANES for (Index i = 0; i < n; ++i)
                of_s[t * n + i] = g_s[i] * (weight_s ? f * weight_s[i] : f) + x_s[i] * back;
        }
    }
}

void lgatr_slim_heads(const T* v, const T* s, T* out, T* factor, Index tokens, Index groups,
                      Index width, Index scalars, double epsilon, Index per_part, Index metric) {
    by_width(width, [&](auto known) {
        heads<known>(v, s, out, factor, tokens, groups, width, scalars, T(epsilon), per_part,
                     metric);
    });
}

void lgatr_slim_heads_gradient(const T* h, const T* grad, const T* factor, T* of_v, T* of_s,
                               Index tokens, Index groups, Index width, Index scalars,
                               Index per_part, Index metric) {
    by_width(width, [&](auto known) {
        heads_gradient<known>(h, grad, factor, of_v, of_s, tokens, groups, width, scalars,
                              per_part, metric);
    });
}

void lgatr_slim_from_heads(T* heads, T* v, T* s, Index tokens, Index groups, Index width,
                           Index scalars) {
    by_width(width, [&](auto known) {
        move_heads<known, false>(heads, v, s, tokens, groups, width, scalars);
    });
}

void lgatr_slim_to_heads(T* heads, T* v, T* s, Index tokens, Index groups, Index width,
                         Index scalars) {
    by_width(width, [&](auto known) {
        move_heads<known, true>(heads, v, s, tokens, groups, width, scalars);
    });
}

// Half the inner products of the second and third vectors, (T, 4, 3 O) to (T, O).
void lgatr_slim_inner(const T* v, T* out, Index tokens, Index outputs) {
    const Index o = outputs;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Vectors b(v + 12 * t * o + o, 3 * o), c(v + 12 * t * o + 2 * o, 3 * o);
        LANES for (Index i = 0; i < o; ++i) out[t * o + i] = T(0.5) * product(b, c, i);
    }
}

// The first vectors, times their gates.
void lgatr_slim_gate(const T* v, const T* gates, T* out, Index tokens, Index outputs) {
    const Index o = outputs;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Vectors a(v + 12 * t * o, 3 * o), to(out + 4 * t * o, o);
        LANES for (Index i = 0; i < o; ++i) {
            const T f = gates[t * o + i];
            to.e[i] = a.e[i] * f, to.x[i] = a.x[i] * f;
            to.y[i] = a.y[i] * f, to.z[i] = a.z[i] * f;
        }
    }
}

void lgatr_slim_gate_gradient(const T* v, const T* grad, T* of_gates, Index tokens,
                              Index outputs) {
    const Index o = outputs;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Vectors a(v + 12 * t * o, 3 * o), g(grad + 4 * t * o, o);
        LANES for (Index i = 0; i < o; ++i) of_gates[t * o + i] = dot(a, g, i);
    }
}

// All three gradients, given gates and the gradient of half the inner products.
void lgatr_slim_glu_gradients(const T* v, const T* gates, const T* grad, const T* of_inner,
                              T* out, Index tokens, Index outputs) {
    const Index o = outputs;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const T *from = v + 12 * t * o, *f = gates + t * o, *d = of_inner + t * o;
        T* place = out + 12 * t * o;
        const Vectors b(from + o, 3 * o), c(from + 2 * o, 3 * o), g(grad + 4 * t * o, o);
        const Vectors da(place, 3 * o), db(place + o, 3 * o), dc(place + 2 * o, 3 * o);
        LANES for (Index i = 0; i < o; ++i) {
            da.e[i] = g.e[i] * f[i], da.x[i] = g.x[i] * f[i];
            da.y[i] = g.y[i] * f[i], da.z[i] = g.z[i] * f[i];
            const T half = T(0.5) * d[i];
            db.e[i] = c.e[i] * half, db.x[i] = -c.x[i] * half;
            db.y[i] = -c.y[i] * half, db.z[i] = -c.z[i] * half;
            dc.e[i] = b.e[i] * half, dc.x[i] = -b.x[i] * half;
            dc.y[i] = -b.y[i] * half, dc.z[i] = -b.z[i] * half;
        }
    }
}
}
