/* Kernels as one instruction set has them: a name carries the set that it is compiled for. */
#pragma once

#include "runtime/kernel/isa_priv.h"

#define AG_ISA_JOIN_(name, isa) name##_##isa
#define AG_ISA_JOIN(name, isa) AG_ISA_JOIN_(name, isa)
/* AG_ISA: base, avx2 or avx512, from the build */
#define AG_ISA_FN(name) AG_ISA_JOIN(name, AG_ISA)

/* LINEAR by type of weight. */
extern const ag_r16_kernel_t AG_ISA_FN(ag_r16_q8_0), AG_ISA_FN(ag_r16_q4_0);
extern const ag_r16_kernel_t AG_ISA_FN(ag_r16_q4_1), AG_ISA_FN(ag_r16_q5_0), AG_ISA_FN(ag_r16_q5_1);
extern const ag_r16_kernel_t AG_ISA_FN(ag_r16_q4_k), AG_ISA_FN(ag_r16_q6_k);
extern const ag_r16_kernel_t AG_ISA_FN(ag_r16_q5_k), AG_ISA_FN(ag_r16_q2_k);
extern const ag_r16_kernel_t AG_ISA_FN(ag_r16_q3_k), AG_ISA_FN(ag_r16_mxfp4);
extern const ag_r16_kernel_t AG_ISA_FN(ag_r16_iq4_nl), AG_ISA_FN(ag_r16_iq4_xs);
extern const ag_r16_kernel_t AG_ISA_FN(ag_r16_bf16), AG_ISA_FN(ag_r16_f16), AG_ISA_FN(ag_r16_f8);

void AG_ISA_FN(ag_attend)(const ag_attend_t *args);
void AG_ISA_FN(ag_glu_silu)(const float *gate, const float *up, uint64_t n, float *y);
void AG_ISA_FN(ag_glu_gelu_tanh)(const float *gate, const float *up, uint64_t n, float *y);
void AG_ISA_FN(ag_glu_gelu_quick)(const float *gate, const float *up, uint64_t n, float *y);
float AG_ISA_FN(ag_sum_squares)(const float *x, uint64_t n);
void AG_ISA_FN(ag_to_bf16)(const float *x, uint64_t n, uint16_t *y);
void AG_ISA_FN(ag_from_bf16)(const uint16_t *x, uint64_t n, float *y);

/* Of training. */
void AG_ISA_FN(ag_glu_grad_silu)(const float *dy, const float *gate, const float *up, uint64_t n,
                                 float *dgate, float *dup);
void AG_ISA_FN(ag_glu_grad_gelu_tanh)(const float *dy, const float *gate, const float *up,
                                      uint64_t n, float *dgate, float *dup);
void AG_ISA_FN(ag_glu_grad_gelu_quick)(const float *dy, const float *gate, const float *up,
                                       uint64_t n, float *dgate, float *dup);
float AG_ISA_FN(ag_largest)(const float *x, uint64_t n);
float AG_ISA_FN(ag_exps)(const ag_exps_t *args, const float *x, uint64_t n, float *y);
float AG_ISA_FN(ag_exps_bf16)(const ag_exps_t *args, const float *x, uint64_t n, uint16_t *y);
void AG_ISA_FN(ag_slopes)(const ag_slopes_t *args, const float *scores, const float *dp, uint64_t n,
                          float *p, float *ds);
void AG_ISA_FN(ag_caps)(const ag_caps_t *args, const float *x, uint64_t n, float *y);
void AG_ISA_FN(ag_slopes_bf16)(const ag_slopes_t *args, const float *scores, const float *dp,
                               uint64_t n, uint16_t *p, uint16_t *ds);
void AG_ISA_FN(ag_adamw)(const ag_adamw_t *adamw, uint64_t n, const float *g, float *w, float *m,
                         float *v);
