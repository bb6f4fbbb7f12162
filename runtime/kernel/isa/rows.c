/* Kernels that touch each element once. */
#include "runtime/kernel/isa/kernels.h"
#include "runtime/kernel/isa/vec.h"

/* x * sigmoid(z): SiLU with z = x; GELU's tanh form, for 0.5 (1 + tanh(u)) = sigmoid(2 u), and its
 * quick one. */
AG_INLINE ag_vec_f_t act(ag_vec_f_t x, const ag_act_t kind)
{
    ag_vec_f_t z = x;

    if (kind == AG_ACT_GELU_TANH) {
        z = 1.5957691216f * ag_vec_fma(x * x * x, ag_vec_splat_f(0.044715f), x);
    } else if (kind == AG_ACT_GELU_QUICK) {
        z = 1.702f * x;
    }
    return x / (1.0f + ag_vec_exp(-z));
}

AG_INLINE void glu(const float *gate, const float *up, uint64_t n, const ag_act_t kind, float *y)
{
    uint64_t i = 0;

    for (; i + AG_VEC_LANES <= n; i += AG_VEC_LANES) {
        ag_vec_store_f(y + i, act(ag_vec_load_f(gate + i), kind) * ag_vec_load_f(up + i));
    }
    if (i < n) {
        float rest[3][AG_VEC_LANES] = {{0}};

        memcpy(rest[0], gate + i, (n - i) * sizeof(float));
        memcpy(rest[1], up + i, (n - i) * sizeof(float));
        ag_vec_store_f(rest[2], act(ag_vec_load_f(rest[0]), kind) * ag_vec_load_f(rest[1]));
        memcpy(y + i, rest[2], (n - i) * sizeof(float));
    }
}

void AG_ISA_FN(ag_glu_silu)(const float *gate, const float *up, uint64_t n, float *y)
{
    glu(gate, up, n, AG_ACT_SILU, y);
}

void AG_ISA_FN(ag_glu_gelu_tanh)(const float *gate, const float *up, uint64_t n, float *y)
{
    glu(gate, up, n, AG_ACT_GELU_TANH, y);
}

void AG_ISA_FN(ag_glu_gelu_quick)(const float *gate, const float *up, uint64_t n, float *y)
{
    glu(gate, up, n, AG_ACT_GELU_QUICK, y);
}

float AG_ISA_FN(ag_sum_squares)(const float *x, uint64_t n)
{
    ag_vec_f_t sums[4] = {ag_vec_splat_f(0), ag_vec_splat_f(0), ag_vec_splat_f(0),
                          ag_vec_splat_f(0)};
    uint64_t i = 0;
    float sum;

    for (; i + 4 * AG_VEC_LANES <= n; i += 4 * AG_VEC_LANES) {
        for (int j = 0; j < 4; j++) {
            ag_vec_f_t v = ag_vec_load_f(x + i + j * AG_VEC_LANES);

            sums[j] = ag_vec_fma(v, v, sums[j]);
        }
    }
    sum = ag_vec_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < n; i++) {
        sum += x[i] * x[i];
    }
    return sum;
}

void AG_ISA_FN(ag_to_bf16)(const float *x, uint64_t n, uint16_t *y)
{
    uint64_t i = 0;

    for (; i + AG_VEC_LANES <= n; i += AG_VEC_LANES) {
        ag_vec_store_bf16(y + i, ag_vec_load_f(x + i));
    }
    if (i < n) {
        float rest[AG_VEC_LANES] = {0};
        uint16_t halves[AG_VEC_LANES];

        memcpy(rest, x + i, (n - i) * sizeof(float));
        ag_vec_store_bf16(halves, ag_vec_load_f(rest));
        memcpy(y + i, halves, (n - i) * sizeof(uint16_t));
    }
}

void AG_ISA_FN(ag_from_bf16)(const uint16_t *restrict x, uint64_t n, float *restrict y)
{
    for (uint64_t i = 0; i < n; i++) {
        y[i] = ag_bf16_to_f32(x[i]);
    }
}
