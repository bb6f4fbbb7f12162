/* What training does to each element once. */
#include "runtime/kernel/isa/kernels.h"
#include "runtime/kernel/isa/vec.h"

/* The first n lanes, zeros behind; n below AG_VEC_LANES. */
AG_INLINE ag_vec_f_t load_rest(const float *x, uint64_t n)
{
    float rest[AG_VEC_LANES] = {0};

    memcpy(rest, x, n * sizeof(float));
    return ag_vec_load_f(rest);
}

AG_INLINE void store_rest(float *y, uint64_t n, ag_vec_f_t v)
{
    float rest[AG_VEC_LANES];

    ag_vec_store_f(rest, v);
    memcpy(y, rest, n * sizeof(float));
}

AG_INLINE ag_vec_f_t load(const float *x, uint64_t n)
{
    return n >= AG_VEC_LANES ? ag_vec_load_f(x) : load_rest(x, n);
}

AG_INLINE void store(float *y, uint64_t n, ag_vec_f_t v)
{
    if (n >= AG_VEC_LANES) {
        ag_vec_store_f(y, v);
    } else {
        store_rest(y, n, v);
    }
}

/* act(x) = x * p with p = sigmoid(z): SiLU with z = x, GELU's other forms as in rows.c. Its
 * derivative is p + x * p * (1 - p) * z'. */
AG_INLINE void glu_grad(const float *dy, const float *gate, const float *up, uint64_t n,
                        const ag_act_t kind, float *dgate, float *dup)
{
    for (uint64_t i = 0; i < n; i += AG_VEC_LANES) {
        ag_vec_f_t g = load(dy + i, n - i), x = load(gate + i, n - i), u = load(up + i, n - i);
        ag_vec_f_t z = x, slope = ag_vec_splat_f(1.0f), part;

        if (kind == AG_ACT_GELU_TANH) {
            z = 1.5957691216f * ag_vec_fma(x * x * x, ag_vec_splat_f(0.044715f), x);
            slope = 1.5957691216f * ag_vec_fma(x * x, ag_vec_splat_f(0.134145f), slope);
        } else if (kind == AG_ACT_GELU_QUICK) {
            z = 1.702f * x;
            slope = ag_vec_splat_f(1.702f);
        }
        part = 1.0f / (1.0f + ag_vec_exp(-z));
        slope = ag_vec_fma(x * part * (1.0f - part), slope, part);
        store(dgate + i, n - i, g * u * slope);
        store(dup + i, n - i, g * (x * part));
    }
}

void AG_ISA_FN(ag_glu_grad_silu)(const float *dy, const float *gate, const float *up, uint64_t n,
                                 float *dgate, float *dup)
{
    glu_grad(dy, gate, up, n, AG_ACT_SILU, dgate, dup);
}

void AG_ISA_FN(ag_glu_grad_gelu_tanh)(const float *dy, const float *gate, const float *up,
                                      uint64_t n, float *dgate, float *dup)
{
    glu_grad(dy, gate, up, n, AG_ACT_GELU_TANH, dgate, dup);
}

void AG_ISA_FN(ag_glu_grad_gelu_quick)(const float *dy, const float *gate, const float *up,
                                       uint64_t n, float *dgate, float *dup)
{
    glu_grad(dy, gate, up, n, AG_ACT_GELU_QUICK, dgate, dup);
}

float AG_ISA_FN(ag_largest)(const float *x, uint64_t n)
{
    ag_vec_f_t largest = ag_vec_splat_f(-AG_VEC_INFINITY);
    float most;
    uint64_t i = 0;

    for (; i + AG_VEC_LANES <= n; i += AG_VEC_LANES) {
        largest = ag_vec_max(ag_vec_load_f(x + i), largest);
    }
    most = ag_vec_largest(largest);
    for (; i < n; i++) {
        most = x[i] > most ? x[i] : most;
    }
    return most;
}

AG_INLINE void store_bf16(uint16_t *y, uint64_t n, ag_vec_f_t v)
{
    uint16_t rest[AG_VEC_LANES];

    if (n >= AG_VEC_LANES) {
        ag_vec_store_bf16(y, v);
    } else {
        ag_vec_store_bf16(rest, v);
        memcpy(y, rest, n * sizeof(uint16_t));
    }
}

/* The first n lanes, zeros behind. */
AG_INLINE ag_vec_f_t first_lanes(ag_vec_f_t v, uint64_t n)
{
    float rest[AG_VEC_LANES];

    ag_vec_store_f(rest, v);
    return load_rest(rest, n);
}

AG_INLINE float exps(const ag_exps_t *args, const float *x, uint64_t n, float *y, uint16_t *halves)
{
    ag_vec_f_t scale = ag_vec_splat_f(args->scale), shift = ag_vec_splat_f(-args->shift);
    ag_vec_f_t factor = ag_vec_splat_f(args->factor), sum = ag_vec_splat_f(0);
    uint64_t i = 0;

    for (; i + AG_VEC_LANES <= n; i += AG_VEC_LANES) {
        ag_vec_f_t e = ag_vec_exp(ag_vec_fma(ag_vec_load_f(x + i), scale, shift)) * factor;

        sum += e;
        if (y != NULL) {
            ag_vec_store_f(y + i, e);
        }
        if (halves != NULL) {
            ag_vec_store_bf16(halves + i, e);
        }
    }
    if (i < n) {
        ag_vec_f_t e = ag_vec_exp(ag_vec_fma(load_rest(x + i, n - i), scale, shift)) * factor;

        sum += first_lanes(e, n - i);
        if (y != NULL) {
            store_rest(y + i, n - i, e);
        }
        if (halves != NULL) {
            store_bf16(halves + i, n - i, e);
        }
    }
    return ag_vec_sum(sum);
}

float AG_ISA_FN(ag_exps)(const ag_exps_t *args, const float *x, uint64_t n, float *y)
{
    return exps(args, x, n, y, NULL);
}

float AG_ISA_FN(ag_exps_bf16)(const ag_exps_t *args, const float *x, uint64_t n, uint16_t *y)
{
    return exps(args, x, n, NULL, y);
}

AG_INLINE ag_vec_f_t slopes(const ag_slopes_t *args, ag_vec_f_t score, ag_vec_f_t dp,
                            ag_vec_f_t *weight)
{
    ag_vec_f_t scale = ag_vec_splat_f(args->scale), shift = ag_vec_splat_f(-args->lse);

    if (args->cap > 0) {
        ag_vec_f_t part = ag_vec_tanh(score * ag_vec_splat_f(args->scale / args->cap));

        *weight = ag_vec_exp(ag_vec_fma(part, ag_vec_splat_f(args->cap), shift));
        return *weight * (dp - args->mean) * (scale * (1.0f - part * part));
    }
    *weight = ag_vec_exp(ag_vec_fma(score, scale, shift));
    return *weight * (dp - args->mean) * scale;
}

void AG_ISA_FN(ag_caps)(const ag_caps_t *args, const float *x, uint64_t n, float *y)
{
    ag_vec_f_t part = ag_vec_splat_f(args->scale / args->cap), cap = ag_vec_splat_f(args->cap);

    for (uint64_t i = 0; i < n; i += AG_VEC_LANES) {
        store(y + i, n - i, cap * ag_vec_tanh(load(x + i, n - i) * part));
    }
}

void AG_ISA_FN(ag_slopes)(const ag_slopes_t *args, const float *scores, const float *dp, uint64_t n,
                          float *p, float *ds)
{
    for (uint64_t i = 0; i < n; i += AG_VEC_LANES) {
        ag_vec_f_t weight, slope;

        slope = slopes(args, load(scores + i, n - i), load(dp + i, n - i), &weight);
        store(p + i, n - i, weight);
        store(ds + i, n - i, slope);
    }
}

void AG_ISA_FN(ag_slopes_bf16)(const ag_slopes_t *args, const float *scores, const float *dp,
                               uint64_t n, uint16_t *p, uint16_t *ds)
{
    for (uint64_t i = 0; i < n; i += AG_VEC_LANES) {
        ag_vec_f_t weight, slope;

        slope = slopes(args, load(scores + i, n - i), load(dp + i, n - i), &weight);
        store_bf16(p + i, n - i, weight);
        store_bf16(ds + i, n - i, slope);
    }
}

void AG_ISA_FN(ag_adamw)(const ag_adamw_t *adamw, uint64_t n, const float *g, float *w, float *m,
                         float *v)
{
    const float decay = 1.0f - adamw->lr * adamw->weight_decay;
    const float size = adamw->lr / adamw->correction1;
    const float deviation = 1.0f / __builtin_sqrtf(adamw->correction2);

    for (uint64_t i = 0; i < n; i += AG_VEC_LANES) {
        ag_vec_f_t grad = load(g + i, n - i) * adamw->gradient_factor, mean, square, step;

        mean = load(m + i, n - i);
        mean += (1.0f - adamw->beta1) * (grad - mean);
        square = load(v + i, n - i) * adamw->beta2 + (1.0f - adamw->beta2) * grad * grad;
        step = size * mean / (ag_vec_sqrt(square) * deviation + adamw->eps);
        store(m + i, n - i, mean);
        store(v + i, n - i, square);
        store(w + i, n - i, load(w + i, n - i) * decay - step);
    }
}
