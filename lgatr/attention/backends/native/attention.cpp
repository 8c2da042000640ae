// Attention inside packed events, forward and backward, for CPUs.
//
// Built on first use by lgatr/ops/_runtime/build.py. An event and a head are one piece of work:
// its matrices fit the caches, so its scores are computed at once, a block of queries at a time,
// and none of them reaches the memory.
// Legend: B events, H heads of D numbers; n queries and m keys of an event.

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

// The same transposed: (D, padded rows).
void copy_columns(const Heads& x, Index start, Index head, Index rows, Index d, T* out) {
    const Index width = padded(rows);
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

struct Problem {
    const Index *queries, *keys;  // offsets (B + 1)
    Index tokens, key_tokens, events, heads, width;
    T scale;
    bool causal;

    // The keys that a query sees.
    Index seen(Index query, Index m) const { return causal && query + 1 < m ? query + 1 : m; }

    Status check() const {
        return !rise(queries, tokens) ? wrong_queries : !rise(keys, key_tokens) ? wrong_keys : fine;
    }

  private:
    bool rise(const Index* offsets, Index last) const {
        if (offsets[0] != 0 || offsets[events] != last) return false;
        for (Index event = 0; event < events; ++event)
            if (offsets[event] > offsets[event + 1]) return false;
        return true;
    }
};

Status attention(const Problem& p, Heads q, Heads k, Heads v, Heads out, T* lse) {
    const Index d = p.width, dp = padded(d);
    bool failed = false;
#pragma omp parallel for schedule(dynamic) reduction(|| : failed)
    for (Index work = 0; work < p.events * p.heads; ++work) {
        const Index event = work / p.heads, head = work % p.heads;
        const Index q0 = p.queries[event], n = p.queries[event + 1] - q0;
        const Index k0 = p.keys[event], m = p.keys[event + 1] - k0, mp = padded(m);
        const Index end = mp / lanes * lanes;  // mp, and the compiler knows what divides it
        T* const keys = room(Wide(d) * mp + Wide(m) * dp + Wide(block) * (mp + dp));
        if (!keys) {
            failed = true;
            continue;
        }
        T *const values = keys + d * mp, *const scores = values + m * dp;
        T* const result = scores + block * mp;
        copy_columns(k, k0, head, m, d, keys);
        copy_rows(v, k0, head, m, d, values);
        for (Index first = 0; first < n; first += block) {
            const Index rows = n - first < block ? n - first : block;
            multiply(left_of(q, q0 + first, head), keys, mp, scores, mp, rows, d, mp);
            for (Index i = 0; i < rows; ++i) {
                T* s = scores + i * mp;
                T& sum_of_row = lse[(q0 + first + i) * p.heads + head];
                if (m == 0) {
                    sum_of_row = -std::numeric_limits<T>::infinity();
                    continue;  // and the result is zero, as a sum over no keys
                }
                const Index seen = p.seen(first + i, m);
                // Whole vectors: what a query does not see counts as a copy of its first score.
                for (Index j = seen; j < mp; ++j) s[j] = s[0];
                T most = s[0], sum = 0;
                for (Index j = 0; j < end; ++j) most = s[j] > most ? s[j] : most;
                for (Index j = 0; j < end; ++j) s[j] = exponential(p.scale * (s[j] - most));
                for (Index j = seen; j < mp; ++j) s[j] = 0;
                for (Index j = 0; j < end; ++j) sum += s[j];
                const T factor = 1 / sum;
                for (Index j = 0; j < end; ++j) s[j] *= factor;
                sum_of_row = p.scale * most + std::log(sum);
            }
            multiply({scores, mp, 1}, values, dp, result, dp, rows, m, dp);
            store_rows(result, out, q0 + first, head, rows, d);
        }
    }
    return failed ? no_memory : fine;
}

Status gradients(const Problem& p, Heads q, Heads k, Heads v, Heads out, Heads grad, const T* lse,
                 Heads of_q, Heads of_k, Heads of_v) {
    const Index d = p.width, dp = padded(d);
    bool failed = false;
#pragma omp parallel for schedule(dynamic) reduction(|| : failed)
    for (Index work = 0; work < p.events * p.heads; ++work) {
        const Index event = work / p.heads, head = work % p.heads;
        const Index q0 = p.queries[event], n = p.queries[event + 1] - q0;
        const Index k0 = p.keys[event], m = p.keys[event + 1] - k0, mp = padded(m);
        const Index end = mp / lanes * lanes;
        T* const keys = room(2 * Wide(d) * mp + 3 * Wide(m) * dp + 2 * Wide(block) * (mp + dp));
        if (!keys) {
            failed = true;
            continue;
        }
        T *const values = keys + d * mp, *const key_rows = values + d * mp;
        T *const to_k = key_rows + m * dp, *const to_v = to_k + m * dp;
        T *const weights = to_v + m * dp, *const changes = weights + block * mp;
        T *const rows_of = changes + block * mp, *const result = rows_of + block * dp;
        copy_columns(k, k0, head, m, d, keys);
        copy_columns(v, k0, head, m, d, values);
        copy_rows(k, k0, head, m, d, key_rows);
        std::memset(to_k, 0, 2 * m * dp * sizeof(T));
        for (Index first = 0; first < n; first += block) {
            const Index rows = n - first < block ? n - first : block, start = q0 + first;
            multiply(left_of(q, start, head), keys, mp, weights, mp, rows, d, mp);
            multiply(left_of(grad, start, head), values, mp, changes, mp, rows, d, mp);
            for (Index i = 0; i < rows; ++i) {
                T *w = weights + i * mp, *c = changes + i * mp;
                const Index seen = p.seen(first + i, m);
                const T log_sum = lse[(start + i) * p.heads + head];
                const T* o = left_of(out, start + i, head).data;
                const T* g = left_of(grad, start + i, head).data;
                T inner = 0;
                for (Index j = 0; j < d; ++j) inner += o[j] * g[j];
                for (Index j = 0; j < end; ++j) {
                    const T x = p.scale * w[j] - log_sum;
                    w[j] = exponential(x > 0 ? T(0) : x);
                }
                for (Index j = 0; j < end; ++j) c[j] = p.scale * w[j] * (c[j] - inner);
                for (Index j = seen; j < mp; ++j) w[j] = c[j] = 0;
            }
            multiply({changes, mp, 1}, key_rows, dp, result, dp, rows, m, dp);
            store_rows(result, of_q, start, head, rows, d);
            copy_rows(q, start, head, rows, d, rows_of);
            multiply<true>({changes, 1, mp}, rows_of, dp, to_k, dp, m, rows, dp);
            copy_rows(grad, start, head, rows, d, rows_of);
            multiply<true>({weights, 1, mp}, rows_of, dp, to_v, dp, m, rows, dp);
        }
        store_rows(to_k, of_k, k0, head, m, d);
        store_rows(to_v, of_v, k0, head, m, d);
    }
    return failed ? no_memory : fine;
}

}  // namespace

extern "C" {

Status lgatr_attention(const Heads* q, const Heads* k, const Heads* v, const Heads* out, T* lse,
                       const Index* queries, const Index* keys, Index tokens, Index key_tokens,
                       Index events, Index heads, Index width, double scale, Index causal) {
    const Problem p{queries, keys, tokens, key_tokens, events, heads, width, T(scale), causal != 0};
    const Status status = p.check();
    return status ? status : attention(p, *q, *k, *v, *out, lse);
}

Status lgatr_attention_gradients(const Heads* q, const Heads* k, const Heads* v, const Heads* out,
                                 const Heads* grad, const T* lse, const Heads* of_q,
                                 const Heads* of_k, const Heads* of_v, const Index* queries,
                                 const Index* keys, Index tokens, Index key_tokens, Index events,
                                 Index heads, Index width, double scale, Index causal) {
    const Problem p{queries, keys, tokens, key_tokens, events, heads, width, T(scale), causal != 0};
    const Status status = p.check();
    return status ? status : gradients(p, *q, *k, *v, *out, *grad, lse, *of_q, *of_k, *of_v);
}
}
