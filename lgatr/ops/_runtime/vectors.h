// Four-vectors of the slim networks: (T, 4, C) with scalars (T, S), contiguous.

#pragma once

#include "common.h"

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
INLINE T sum_of_absolute_squares(const Vectors& v, const T* s, Index c, Index n) {
    T total = 0;
    for (Index i = 0; i < c; ++i) total += std::abs(product(v, v, i));
    for (Index i = 0; i < n; ++i) total += s[i] * s[i];
    return total;
}

// `out` gets scale g + change v; for space components callers negate `change`.
INLINE void add_scaled(T* out, const T* g, const T* v, Index i, T scale, T change) {
    out[i] = g[i] * scale + v[i] * change;
}

}  // namespace
