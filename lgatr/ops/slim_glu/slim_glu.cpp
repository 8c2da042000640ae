// Gated units: vectors a, b, c (T, 4, 3 O) to a times a function of half of <b, c>.
//
// Legend: T tokens, O outputs.

#include "vectors.h"

extern "C" {

void lgatr_slim_inner(const T* v, T* out, Index tokens, Index outputs) {
    const Index o = outputs;
#pragma omp parallel for if (tokens > few)
    for (Index t = 0; t < tokens; ++t) {
        const Vectors b(v + 12 * t * o + o, 3 * o), c(v + 12 * t * o + 2 * o, 3 * o);
        LANES for (Index i = 0; i < o; ++i) out[t * o + i] = T(0.5) * product(b, c, i);
    }
}

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
