// What the kernels of attention on CPUs share: products of small matrices, rows and columns of an
// event's heads, exponentials, memory of threads.
//
// Legend: H heads of D numbers; n queries and m keys of an event.

#pragma once

#include "common.h"

#include <cstring>
#include <limits>
#include <new>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int bytes = 64, wide = 4, tall = 6;  // of a vector; vectors and rows of a tile
#elif defined(__AVX__)
constexpr int bytes = 32, wide = 3, tall = 4;
#else
constexpr int bytes = 16, wide = 2, tall = 4;
#endif
constexpr int lanes = bytes / sizeof(T);
typedef T Vector __attribute__((vector_size(bytes), aligned(alignof(T)), may_alias));

constexpr Index block = 64;  // queries at a time

// Of products of sizes, which may exceed an Index.
typedef unsigned __int128 Wide;

// As laid out by ctypes in lgatr/ops/_runtime/arguments.py: (tokens, H, D), numbers of a head side by side.
struct Heads {
    T* data;
    Index token, head;
};

INLINE Index padded(Index n) { return (n + lanes - 1) / lanes * lanes; }

// ---------------------------------------------------------------------------------------------
// Products of small matrices: C (M, N) = A (M, K) B (K, N), or C + A B. A has any strides; N is a
// multiple of the lanes, and rows of B and C are contiguous.

struct Left {
    const T* data;
    Index row, column;
};

template <int R, int V, bool Add>
INLINE void tile(Left a, const T* b, Index b_row, T* c, Index c_row, Index depth) {
    Vector sum[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v)
            sum[r][v] = Add ? *(const Vector*)(c + r * c_row + v * lanes) : Vector{};
    for (Index k = 0; k < depth; ++k) {
        Vector right[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) right[v] = *(const Vector*)(b + k * b_row + v * lanes);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const T left = a.data[r * a.row + k * a.column];
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sum[r][v] += left * right[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) *(Vector*)(c + r * c_row + v * lanes) = sum[r][v];
}

template <int V, bool Add>
void columns(Left a, const T* b, Index b_row, T* c, Index c_row, Index rows, Index depth) {
    for (; rows >= tall; rows -= tall, a.data += tall * a.row, c += tall * c_row)
        tile<tall, V, Add>(a, b, b_row, c, c_row, depth);
    for (; rows >= 2; rows -= 2, a.data += 2 * a.row, c += 2 * c_row)
        tile<2, V, Add>(a, b, b_row, c, c_row, depth);
    if (rows) tile<1, V, Add>(a, b, b_row, c, c_row, depth);
}

template <bool Add = false>
void multiply(Left a, const T* b, Index b_row, T* c, Index c_row, Index rows, Index depth,
              Index width) {
    for (Index left = width / lanes; left > 0;) {
        // Two tiles of nearly equal width are faster than a full and a thin one.
        const Index v = left > wide && left < 2 * wide ? (left + 1) / 2 : left < wide ? left : wide;
        if (v == 1) columns<1, Add>(a, b, b_row, c, c_row, rows, depth);
        if (v == 2) columns<2, Add>(a, b, b_row, c, c_row, rows, depth);
        if (v == 3) columns<3, Add>(a, b, b_row, c, c_row, rows, depth);
        if (v == 4) columns<4, Add>(a, b, b_row, c, c_row, rows, depth);
        left -= v, b += v * lanes, c += v * lanes;
    }
}

// ---------------------------------------------------------------------------------------------

// exp(x) for x <= 0, with an absolute error of a few 1e-8; what is not a number stays so. As
// 2^k 2^r with |r| <= 1/2, whose series ends where a float does.
INLINE float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float t = x * 1.44269504f, k = std::nearbyint(t), r = t - k;
    float y = 1.52527338e-5f;
    y = y * r + 1.54035304e-4f, y = y * r + 1.33335581e-3f, y = y * r + 9.61812911e-3f;
    y = y * r + 5.55041087e-2f, y = y * r + 2.40226507e-1f, y = y * r + 6.93147181e-1f;
    y = y * r + 1.0f;
    // What is not a number has no whole part: its power is zero here, and it stays in y.
    const std::int32_t bits = (static_cast<std::int32_t>(k > -127.0f ? k : -127.0f) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return y * power;
}

INLINE double exponential(double x) { return std::exp(x); }

// Rows of an event's head, padded with zeros to whole vectors.
void copy_rows(const Heads& x, Index start, Index head, Index rows, Index d, T* out) {
    const Index width = padded(d);
    for (Index i = 0; i < rows; ++i, out += width) {
        std::memcpy(out, x.data + (start + i) * x.token + head * x.head, d * sizeof(T));
        std::memset(out + d, 0, (width - d) * sizeof(T));
    }
}

// Transpose `lanes` vectors: exchange blocks of half the size, a quarter, and so on.
INLINE void transpose(Vector* rows) {
#if defined(__clang__)
    T numbers[lanes][lanes];
    std::memcpy(numbers, rows, sizeof numbers);
    for (int i = 0; i < lanes; ++i)
        for (int j = 0; j < lanes; ++j) rows[i][j] = numbers[j][i];
#else
    typedef std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t> Integer;
    typedef Integer Mask __attribute__((vector_size(bytes)));
#pragma GCC unroll 4
    for (int size = lanes / 2; size > 0; size /= 2) {
        Mask upper, lower;
#pragma GCC unroll 16
        for (int p = 0; p < lanes; ++p) {
            upper[p] = p & size ? lanes + p - size : p;
            lower[p] = p & size ? lanes + p : p + size;
        }
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i)
            if (!(i & size)) {
                const Vector a = rows[i], b = rows[i + size];
                rows[i] = __builtin_shuffle(a, b, upper);
                rows[i + size] = __builtin_shuffle(a, b, lower);
            }
    }
#endif
}

// The same transposed: (D, width), of which the padded rows are written.
void copy_columns(const Heads& x, Index start, Index head, Index rows, Index d, T* out, Index width) {
    for (Index i = 0; i < rows; i += lanes) {
        const T* from = x.data + (start + i) * x.token + head * x.head;
        const Index height = rows - i < lanes ? rows - i : lanes;
        for (Index j = 0; j < d; j += lanes) {
            const Index part = d - j < lanes ? d - j : lanes;
            Vector square[lanes];
            if (height == lanes && part == lanes) {
                for (Index r = 0; r < lanes; ++r) square[r] = *(const Vector*)(from + r * x.token + j);
            } else {
                std::memset(square, 0, sizeof square);
                for (Index r = 0; r < height; ++r)
                    std::memcpy(square + r, from + r * x.token + j, part * sizeof(T));
            }
            transpose(square);
            for (Index c = 0; c < part; ++c) *(Vector*)(out + (j + c) * width + i) = square[c];
        }
    }
}

void store_rows(const T* from, const Heads& x, Index start, Index head, Index rows, Index d) {
    const Index width = padded(d);
    for (Index i = 0; i < rows; ++i)
        std::memcpy(x.data + (start + i) * x.token + head * x.head, from + i * width,
                    d * sizeof(T));
}

INLINE Left left_of(const Heads& x, Index start, Index head) {
    return {x.data + start * x.token + head * x.head, x.token, 1};
}

// Room that a thread keeps, or null where there is none.
T* room(Wide size) {
    thread_local std::vector<T> buffer;
    if (buffer.size() <= size) {
        // An exception must leave neither a parallel region nor this library.
        try {
            if (size >= buffer.max_size()) return nullptr;
            buffer.resize(static_cast<std::size_t>(size) + 1);
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
    }
    return buffer.data();
}

}  // namespace
