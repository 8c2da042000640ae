// What all kernels for CPUs share.

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

constexpr Index few = 64;  // tokens, which one thread finishes before a second has begun

INLINE T sign(T x) { return T(x > 0) - T(x < 0); }

// Whether a part (queries, keys or values) has the signs of the inner product.
INLINE bool has_metric(Index metric, Index part) { return part < 63 && metric >> part & 1; }

// What a kernel found that only the numbers in its arguments tell; their sizes are checked by
// lgatr/kernels/native_signatures.py. As in native.py.
enum Status : int { fine, wrong_queries, wrong_keys, no_memory };

}  // namespace
