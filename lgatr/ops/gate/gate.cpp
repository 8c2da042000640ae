// Scalar gates: a gate (T, C) multiplies each multivector; auxiliary scalars are left out.

#include "common.h"

namespace {

INLINE void gate_row(const T* from, T* to, const T* gate, Index n) {
    LANES for (Index c = 0; c < n; ++c) to[c] = from[c] * gate[c], to[c + n] = from[c + n] * gate[c];
}

void gate(const State& x, const T* g, const State& out, Index tokens, Index n) {
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Rows from(x, t), to(out, t);
        const T* h = g + t * n;
        gate_row(from.z, to.z, h, n);
        gate_row(from.v0, to.v0, h, n), gate_row(from.v1, to.v1, h, n);
        gate_row(from.v2, to.v2, h, n), gate_row(from.v3, to.v3, h, n);
        gate_row(from.b0, to.b0, h, n), gate_row(from.b1, to.b1, h, n);
        gate_row(from.b2, to.b2, h, n);
    }
}

// The gradient of the gate is the sum over the sixteen coefficients.
void gate_gradient(const State& x, const T* gates, const State& grad, const State& out, T* of_gate,
                   Index tokens, Index n) {
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Rows a(x, t), g(grad, t), to(out, t);
        const T* h = gates + t * n;
        T* sum = of_gate + t * n;
        LANES for (Index c = 0; c < n; ++c) {
            const Index d = c + n;
            sum[c] = g.z[c] * a.z[c] + g.z[d] * a.z[d] + g.v0[c] * a.v0[c] + g.v0[d] * a.v0[d] +
                     g.v1[c] * a.v1[c] + g.v1[d] * a.v1[d] + g.v2[c] * a.v2[c] +
                     g.v2[d] * a.v2[d] + g.v3[c] * a.v3[c] + g.v3[d] * a.v3[d] +
                     g.b0[c] * a.b0[c] + g.b0[d] * a.b0[d] + g.b1[c] * a.b1[c] +
                     g.b1[d] * a.b1[d] + g.b2[c] * a.b2[c] + g.b2[d] * a.b2[d];
        }
        gate_row(g.z, to.z, h, n);
        gate_row(g.v0, to.v0, h, n), gate_row(g.v1, to.v1, h, n);
        gate_row(g.v2, to.v2, h, n), gate_row(g.v3, to.v3, h, n);
        gate_row(g.b0, to.b0, h, n), gate_row(g.b1, to.b1, h, n);
        gate_row(g.b2, to.b2, h, n);
    }
}

}  // namespace

extern "C" {

void lgatr_gate(const State* x, const T* gates, const State* out, Index tokens, Index channels) {
    gate(*x, gates, *out, tokens, channels);
}

void lgatr_gate_gradient(const State* x, const T* gates, const State* grad, const State* out,
                         T* of_gate, Index tokens, Index channels) {
    gate_gradient(*x, gates, *grad, *out, of_gate, tokens, channels);
}

}
