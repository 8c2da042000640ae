// Attention inside packed events, forward and backward, for CPUs.
//
// Built on first use by lgatr/ops/_runtime/build.py. An event and a head are one piece of work:
// its matrices fit the caches, so its scores are computed at once, a block of queries at a time,
// and none of them reaches the memory.
// Legend: B events, H heads of D numbers; n queries and m keys of an event.

#include "attention_tiles.h"

namespace {

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
        copy_columns(k, k0, head, m, d, keys, mp);
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
        copy_columns(k, k0, head, m, d, keys, mp);
        copy_columns(v, k0, head, m, d, values, mp);
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
