// Attention inside packed events with masks and changed scores, forward and backward, for CPUs.
//
// Scores of a block of queries are computed a stretch of keys at a time, and weights are rescaled
// as larger scores come, so that an event may have any length. Keys that no query of the block
// sees are passed over: by the first and last key of each query, or by a table of the mask and
// what it says of square tiles. Where a stretch is seen as a whole, no mask is looked at.
// Legend: B events, H heads of D numbers; n queries and m keys of an event.

#include "attention_tiles.h"

namespace {

constexpr Index stretch = 512;    // keys at a time
constexpr Index tile_keys = 64;   // of a tile; its queries are those of a block
enum Tile : Byte { none, some, all };

// Rows that lie an odd number of vectors apart share no sets of a cache.
INLINE Index spread(Index n) { return (padded(n) / lanes | 1) * lanes; }

// tanh(x): by its series below 1/4, as a ratio of what does not cancel above.
INLINE float hyperbolic(float x) {
    const float a = std::fabs(x), e = exponential(-2 * a), y = x * x;
    float series = 2.18694885e-2f;
    series = series * y - 5.39682540e-2f, series = series * y + 1.33333333e-1f;
    series = series * y - 3.33333333e-1f;
    const float ratio = (1 - e) / (1 + e), small = a + a * y * series;
    return std::copysign(a < 0.25f ? small : ratio, x);
}

INLINE double hyperbolic(double x) { return std::tanh(x); }

struct Pattern {
    const Index *queries, *keys;  // offsets (B + 1)
    Index tokens, key_tokens, events, heads, width;
    const Index *first, *last;           // keys that each query sees, (T); or null
    const Byte *table, *tiles;   // (M, P) and (M, R) of the mask, M being 1 or H; or null
    Index masks, entries, squares;
    T scale, cap;     // no cap is zero
    const T* slopes;  // (H) of distances, or null

    // Where the events begin in the table and among the tiles.
    std::vector<Index> table_of, tiles_of;

    // Of pairs, one alone says nothing.
    Status check() {
        if (!first || !last) first = last = nullptr;
        if (!table || !tiles) table = tiles = nullptr;
        if (!rise(queries, tokens)) return wrong_queries;
        if (!rise(keys, key_tokens)) return wrong_keys;
        if (!table) return fine;
        try {
            table_of.resize(events + 1), tiles_of.resize(events + 1);
        } catch (const std::bad_alloc&) {
            return no_memory;
        }
        Wide entry = 0, square = 0;
        for (Index event = 0; event < events; ++event) {
            table_of[event] = static_cast<Index>(entry), tiles_of[event] = static_cast<Index>(square);
            const Wide n = queries[event + 1] - queries[event], m = keys[event + 1] - keys[event];
            entry += n * m, square += (n + block - 1) / block * ((m + tile_keys - 1) / tile_keys);
            if (entry > static_cast<Wide>(entries) || square > static_cast<Wide>(squares))
                return wrong_mask;
        }
        const bool complete = entry == static_cast<Wide>(entries) && square == static_cast<Wide>(squares);
        return complete && (masks == 1 || masks == heads) ? fine : wrong_mask;
    }

  private:
    bool rise(const Index* offsets, Index end) const {
        if (offsets[0] != 0 || offsets[events] != end) return false;
        for (Index event = 0; event < events; ++event)
            if (offsets[event] > offsets[event + 1]) return false;
        return true;
    }
};

// An event of one head, seen from a block of its queries.
struct View {
    const Pattern& p;
    Index event, head, q0, n, k0, m, row = 0, rows = 0;

    View(const Pattern& pattern, Index work) : p(pattern) {
        event = work / p.heads, head = work % p.heads;
        q0 = p.queries[event], n = p.queries[event + 1] - q0;
        k0 = p.keys[event], m = p.keys[event + 1] - k0;
    }

    bool next_block() {
        row += rows;
        rows = n - row < block ? n - row : block;
        return rows > 0;
    }

    // The first and the end of the keys that a query of the block sees.
    Index first_of(Index i) const { return limited(p.first[q0 + row + i]); }
    Index last_of(Index i) const { return limited(p.last[q0 + row + i]); }

    // Whether a query sees keys of the event, one byte each.
    const Byte* seen_by(Index i) const {
        const Index mask = p.masks == 1 ? 0 : head;
        return p.table + mask * p.entries + p.table_of[event] + (row + i) * m;
    }

    // The next keys at or behind `start` of which some are seen: from where, to where, whether all
    // queries see all of them.
    struct Stretch {
        Index start, stop;
        bool whole;
    };
    bool next(Stretch& found) const {
        Index start = found.stop;
        if (p.table) {
            const Index across = (m + tile_keys - 1) / tile_keys, mask = p.masks == 1 ? 0 : head;
            const Byte* of_block =
                p.tiles + mask * p.squares + p.tiles_of[event] + row / block * across;
            Index tile = (start + tile_keys - 1) / tile_keys;
            while (tile < across && of_block[tile] == none) ++tile;
            if (tile >= across) return false;
            found.start = tile * tile_keys, found.whole = true;
            for (; tile < across && of_block[tile] != none &&
                   (tile + 1) * tile_keys <= found.start + stretch; ++tile)
                found.whole = found.whole && of_block[tile] == all;
            found.stop = tile * tile_keys < m ? tile * tile_keys : m;
            return true;
        }
        Index end = m, begin = 0, begins = 0, ends = m;  // of some, and of all queries
        if (p.first) {
            begin = m, end = 0;
            for (Index i = 0; i < rows; ++i) {
                const Index a = first_of(i), b = last_of(i);
                begins = a > begins ? a : begins, ends = b < ends ? b : ends;
                if (a < b) begin = a < begin ? a : begin, end = b > end ? b : end;
            }
        }
        begin = begin / lanes * lanes;
        found.start = start > begin ? start : begin;
        if (found.start >= end) return false;
        found.stop = found.start + stretch < end ? found.start + stretch : end;
        found.whole = begins <= found.start && found.stop <= ends;
        return true;
    }

    // Scores as the user wants them, from products of a query with keys from `start` on.
    INLINE void change(T* s, Index i, Index start, Index count) const {
        for (Index j = 0; j < count; ++j) s[j] *= p.scale;
        if (p.cap > 0)
            for (Index j = 0; j < count; ++j) s[j] = p.cap * hyperbolic(s[j] / p.cap);
        if (p.slopes) {
            const T slope = p.slopes[head];
            const int distance = static_cast<int>(row + i + m - n - start);
            const int end = static_cast<int>(count);
            for (int j = 0; j < end; ++j) s[j] -= slope * std::fabs(T(distance - j));
        }
    }

    // Which keys from `start` on a query sees: one or zero for each.
    INLINE void allow(Byte* seen, Index i, Index start, Index count) const {
        if (p.table) {
            const Byte* from = seen_by(i) + start;
            for (Index j = 0; j < count; ++j) seen[j] = from[j] != 0;
            return;
        }
        const Index a = first_of(i) - start, b = last_of(i) - start;
        for (Index j = 0; j < count; ++j) seen[j] = j >= a && j < b;
    }

  private:
    Index limited(Index key) const { return key < 0 ? 0 : key > m ? m : key; }
};

constexpr T infinity = std::numeric_limits<T>::infinity();

Status attention(const Pattern& p, Heads q, Heads k, Heads v, Heads out, T* lse) {
    const Index d = p.width, dp = padded(d), wide_row = spread(stretch);
    bool failed = false;
#pragma omp parallel for schedule(dynamic) reduction(|| : failed)
    for (Index work = 0; work < p.events * p.heads; ++work) {
        View at(p, work);
        const Index m = at.m, row_of_keys = spread(m);
        T* const keys = room(Wide(d) * row_of_keys + Wide(m) * dp + Wide(block) * (wide_row + dp));
        if (!keys) {
            failed = true;
            continue;
        }
        T *const values = keys + d * row_of_keys, *const scores = values + m * dp;
        T* const sums = scores + block * wide_row;
        copy_columns(k, at.k0, at.head, m, d, keys, row_of_keys);
        copy_rows(v, at.k0, at.head, m, d, values);
        Byte seen[stretch];
        while (at.next_block()) {
            T most[block], total[block];
            for (Index i = 0; i < at.rows; ++i) most[i] = -infinity, total[i] = 0;
            std::memset(sums, 0, at.rows * dp * sizeof(T));
            View::Stretch part{0, 0, true};
            while (at.next(part)) {
                const Index count = part.stop - part.start;
                multiply(left_of(q, at.q0 + at.row, at.head), keys + part.start, row_of_keys, scores,
                         wide_row, at.rows, d, padded(count));
                for (Index i = 0; i < at.rows; ++i) {
                    T* s = scores + i * wide_row;
                    at.change(s, i, part.start, count);
                    if (!part.whole) {
                        at.allow(seen, i, part.start, count);
                        for (Index j = 0; j < count; ++j) s[j] = seen[j] ? s[j] : -infinity;
                    }
                    T top = most[i], sum = 0;
                    for (Index j = 0; j < count; ++j) top = s[j] > top ? s[j] : top;
                    if (top == -infinity)  // nothing is seen, or what is no number
                        for (Index j = 0; j < count; ++j) top = s[j] != s[j] ? s[j] : top;
                    if (top == -infinity) {
                        std::memset(s, 0, count * sizeof(T));
                        continue;
                    }
                    for (Index j = 0; j < count; ++j) s[j] = exponential(s[j] - top);
                    if (!part.whole)
                        for (Index j = 0; j < count; ++j) s[j] = seen[j] ? s[j] : T(0);
                    for (Index j = 0; j < count; ++j) sum += s[j];
                    const T less = most[i] == top ? T(1) : std::exp(most[i] - top);
                    most[i] = top, total[i] = total[i] * less + sum;
                    if (less != 1)
                        for (Index c = 0; c < dp; ++c) sums[i * dp + c] *= less;
                }
                multiply<true>({scores, wide_row, 1}, values + part.start * dp, dp, sums, dp, at.rows,
                               count, dp);
            }
            for (Index i = 0; i < at.rows; ++i) {
                const T factor = total[i] == 0 ? T(0) : 1 / total[i];
                for (Index c = 0; c < dp; ++c) sums[i * dp + c] *= factor;
                lse[(at.q0 + at.row + i) * p.heads + at.head] =
                    total[i] == 0 ? -infinity : most[i] + std::log(total[i]);
            }
            store_rows(sums, out, at.q0 + at.row, at.head, at.rows, d);
        }
    }
    return failed ? no_memory : fine;
}

Status gradients(const Pattern& p, Heads q, Heads k, Heads v, Heads out, Heads grad, const T* lse,
                 Heads of_q, Heads of_k, Heads of_v) {
    const Index d = p.width, dp = padded(d), wide_row = spread(stretch);
    bool failed = false;
#pragma omp parallel for schedule(dynamic) reduction(|| : failed)
    for (Index work = 0; work < p.events * p.heads; ++work) {
        View at(p, work);
        const Index m = at.m, row_of_keys = spread(m);
        T* const keys = room(2 * Wide(d) * row_of_keys + 3 * Wide(m) * dp +
                             2 * Wide(block) * wide_row + 3 * Wide(block) * dp);
        if (!keys) {
            failed = true;
            continue;
        }
        T *const values = keys + d * row_of_keys, *const key_rows = values + d * row_of_keys;
        T *const to_k = key_rows + m * dp, *const to_v = to_k + m * dp;
        T *const weights = to_v + m * dp, *const changes = weights + block * wide_row;
        T *const q_rows = changes + block * wide_row, *const g_rows = q_rows + block * dp;
        T* const to_q = g_rows + block * dp;
        copy_columns(k, at.k0, at.head, m, d, keys, row_of_keys);
        copy_columns(v, at.k0, at.head, m, d, values, row_of_keys);
        copy_rows(k, at.k0, at.head, m, d, key_rows);
        std::memset(to_k, 0, 2 * m * dp * sizeof(T));
        Byte seen[stretch];
        while (at.next_block()) {
            const Index start = at.q0 + at.row;
            T inner[block];
            for (Index i = 0; i < at.rows; ++i) {
                const T* o = left_of(out, start + i, at.head).data;
                const T* g = left_of(grad, start + i, at.head).data;
                inner[i] = 0;
                for (Index c = 0; c < d; ++c) inner[i] += o[c] * g[c];
            }
            copy_rows(q, start, at.head, at.rows, d, q_rows);
            copy_rows(grad, start, at.head, at.rows, d, g_rows);
            std::memset(to_q, 0, at.rows * dp * sizeof(T));
            View::Stretch part{0, 0, true};
            while (at.next(part)) {
                const Index count = part.stop - part.start;
                multiply({q_rows, dp, 1}, keys + part.start, row_of_keys, weights, wide_row, at.rows, d,
                         padded(count));
                multiply({g_rows, dp, 1}, values + part.start, row_of_keys, changes, wide_row, at.rows,
                         d, padded(count));
                for (Index i = 0; i < at.rows; ++i) {
                    T *w = weights + i * wide_row, *c = changes + i * wide_row;
                    const T log_sum = lse[(start + i) * p.heads + at.head];
                    if (log_sum == -infinity) {  // sees nothing
                        std::memset(w, 0, count * sizeof(T)), std::memset(c, 0, count * sizeof(T));
                        continue;
                    }
                    if (p.cap > 0)  // times the derivative of the cap
                        for (Index j = 0; j < count; ++j) {
                            const T t = hyperbolic(p.scale * w[j] / p.cap);
                            c[j] = (c[j] - inner[i]) * (1 - t * t);
                        }
                    else
                        for (Index j = 0; j < count; ++j) c[j] -= inner[i];
                    at.change(w, i, part.start, count);
                    for (Index j = 0; j < count; ++j) {
                        const T x = w[j] - log_sum;
                        w[j] = exponential(x > 0 ? T(0) : x);
                    }
                    if (!part.whole) {
                        at.allow(seen, i, part.start, count);
                        for (Index j = 0; j < count; ++j) w[j] = seen[j] ? w[j] : T(0);
                        for (Index j = 0; j < count; ++j) c[j] = seen[j] ? c[j] : T(0);
                    }
                    for (Index j = 0; j < count; ++j) c[j] *= p.scale * w[j];
                }
                multiply<true>({changes, wide_row, 1}, key_rows + part.start * dp, dp, to_q, dp, at.rows,
                               count, dp);
                multiply<true>({changes, 1, wide_row}, q_rows, dp, to_k + part.start * dp, dp, count,
                               at.rows, dp);
                multiply<true>({weights, 1, wide_row}, g_rows, dp, to_v + part.start * dp, dp, count,
                               at.rows, dp);
            }
            store_rows(to_q, of_q, start, at.head, at.rows, d);
        }
        store_rows(to_k, of_k, at.k0, at.head, m, d);
        store_rows(to_v, of_v, at.k0, at.head, m, d);
    }
    return failed ? no_memory : fine;
}

// What a mask says of each tile of an event.
void judge(const Byte* table, Index n, Index m, Byte* tiles) {
    for (Index row = 0; row < n; row += block)
        for (Index key = 0; key < m; key += tile_keys, ++tiles) {
            const Index rows = n - row < block ? n - row : block;
            const Index count = m - key < tile_keys ? m - key : tile_keys;
            Index seen = 0;
            for (Index i = row; i < row + rows; ++i) {
                int of_row = 0;
                for (Index j = key; j < key + count; ++j) of_row += table[i * m + j] != 0;
                seen += of_row;
            }
            *tiles = seen == 0 ? none : seen == rows * count ? all : some;
        }
}

}  // namespace

extern "C" {

Status lgatr_attention_tiles(const Byte* table, Byte* tiles,
                             const Index* queries, const Index* keys, Index tokens, Index key_tokens,
                             Index events, Index masks, Index entries, Index squares) {
    Pattern p{};
    p.queries = queries, p.keys = keys, p.tokens = tokens, p.key_tokens = key_tokens;
    p.events = events, p.heads = masks, p.table = table, p.tiles = tiles;
    p.masks = masks, p.entries = entries, p.squares = squares;
    const Status status = p.check();
    if (status) return status;
#pragma omp parallel for schedule(dynamic)
    for (Index work = 0; work < masks * events; ++work) {
        const Index mask = work / events, event = work % events;
        judge(table + mask * entries + p.table_of[event], queries[event + 1] - queries[event],
              keys[event + 1] - keys[event], tiles + mask * squares + p.tiles_of[event]);
    }
    return fine;
}

Status lgatr_masked_attention(const Heads* q, const Heads* k, const Heads* v, const Heads* out, T* lse,
                              const Index* queries, const Index* keys, const Index* first,
                              const Index* last, const Byte* table,
                              const Byte* tiles, const T* slopes, Index tokens,
                              Index key_tokens, Index events, Index heads, Index width, Index masks,
                              Index entries, Index squares, double scale, double cap) {
    Pattern p{queries, keys, tokens, key_tokens, events, heads, width, first, last, table, tiles,
              masks, entries, squares, T(scale), T(cap), slopes, {}, {}};
    const Status status = p.check();
    return status ? status : attention(p, *q, *k, *v, *out, lse);
}

Status lgatr_masked_attention_gradients(
    const Heads* q, const Heads* k, const Heads* v, const Heads* out, const Heads* grad, const T* lse,
    const Heads* of_q, const Heads* of_k, const Heads* of_v, const Index* queries, const Index* keys,
    const Index* first, const Index* last, const Byte* table, const Byte* tiles,
    const T* slopes, Index tokens, Index key_tokens, Index events, Index heads, Index width,
    Index masks, Index entries, Index squares, double scale, double cap) {
    Pattern p{queries, keys, tokens, key_tokens, events, heads, width, first, last, table, tiles,
              masks, entries, squares, T(scale), T(cap), slopes, {}, {}};
    const Status status = p.check();
    return status ? status : gradients(p, *q, *k, *v, *out, *grad, lse, *of_q, *of_k, *of_v);
}
}
