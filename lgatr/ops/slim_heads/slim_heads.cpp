// Norm of each head, signs of the inner product and flattening, and back.
//
// Legend: T tokens, N heads of all parts, c and s channels of a head, D = 4 c + s.

#include "vectors.h"

namespace {

// Known widths let the compiler unroll the loops over a head.
template <class Call>
INLINE void by_width(Index width, Call call) {
    switch (width) {
        case 4: return call(std::integral_constant<int, 4>());
        case 8: return call(std::integral_constant<int, 8>());
        default: return call(std::integral_constant<int, 0>());
    }
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
            const T total = sum_of_absolute_squares(from, from_s, c, scalars);
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
                add_scaled(to.e, gv.e, v.e, i, f, change);
                add_scaled(to.x, gv.x, v.x, i, later * f, -later * change);
                add_scaled(to.y, gv.y, v.y, i, later * f, -later * change);
                add_scaled(to.z, gv.z, v.z, i, later * f, -later * change);
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

}
