// What the kernels for CPUs share. They are built on first use by build.py; nothing but the C++
// standard library is needed. Sums over tokens are taken in a fixed number of pieces, so that
// results do not depend on the number of threads.
//
// Legend: T tokens, C multivector channels, w = 2 C numbers of a row of pairs, S scalar channels.

#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#if defined(__clang__)
#define LANES _Pragma("clang loop vectorize(enable) interleave(enable)")
#else
#define LANES _Pragma("GCC ivdep")
#endif
#define INLINE inline __attribute__((always_inline))

namespace {

using T = REAL;  // float or double, given to the compiler
using Index = std::int64_t;
using Byte = std::uint8_t;

constexpr Index few = 64;  // tokens, which one thread finishes before a second has begun

INLINE T sign(T x) { return T(x > 0) - T(x < 0); }

// Whether a part (queries, keys or values) has the signs of the inner product.
INLINE bool has_metric(Index metric, Index part) { return part < 63 && metric >> part & 1; }

// What a kernel found that only the numbers in its arguments tell; their sizes were checked by
// cpu.py, which also knows these numbers.
enum Status : int { fine, wrong_queries, wrong_keys, no_memory, wrong_mask };

// As packed by pack_state of arguments.py: a state z (T, w + S), v (4, T, w), b (3, T, w) with
// channels side by side, rows and tokens at any distance.
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

// The layer norm of scalars.

// The mean is summed from the first scalar, so that equal scalars have exactly theirs: a rounding of
// it would be magnified by the inverse deviation, up to 1 / sqrt(epsilon).
INLINE void scalar_moments(const T* s, Index n, T epsilon, T& mean, T& deviation) {
    T sum = 0, squares = 0;
    for (Index i = 1; i < n; ++i) sum += s[i] - s[0];
    mean = s[0] + sum / T(n);
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

}  // namespace
