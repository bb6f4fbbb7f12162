/* What this build of the kernels is, and whether the machine can run it. */
#include "runtime/kernel/isa/kernels.h"

#define AG_ISA_TEXT_(isa) #isa
#define AG_ISA_TEXT(isa) AG_ISA_TEXT_(isa)

/* All that the compiler was told it may use: x86-64-v4 with VNNI and BF16, x86-64-v3. */
static bool supported(void)
{
#if defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512bf16");
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2");
#else
    return true;
#endif
}

const ag_isa_t AG_ISA_FN(ag_isa) = {
    .name = AG_ISA_TEXT(AG_ISA),
    .supported = supported,
    .r16 =
        {
            [AG_Q8_0] = &AG_ISA_FN(ag_r16_q8_0),
            [AG_Q4_0] = &AG_ISA_FN(ag_r16_q4_0),
            [AG_Q4_1] = &AG_ISA_FN(ag_r16_q4_1),
            [AG_Q5_0] = &AG_ISA_FN(ag_r16_q5_0),
            [AG_Q5_1] = &AG_ISA_FN(ag_r16_q5_1),
            [AG_Q4_K] = &AG_ISA_FN(ag_r16_q4_k),
            [AG_Q6_K] = &AG_ISA_FN(ag_r16_q6_k),
            [AG_Q5_K] = &AG_ISA_FN(ag_r16_q5_k),
            [AG_Q2_K] = &AG_ISA_FN(ag_r16_q2_k),
            [AG_Q3_K] = &AG_ISA_FN(ag_r16_q3_k),
            [AG_IQ4_NL] = &AG_ISA_FN(ag_r16_iq4_nl),
            [AG_IQ4_XS] = &AG_ISA_FN(ag_r16_iq4_xs),
            [AG_MXFP4] = &AG_ISA_FN(ag_r16_mxfp4),
            [AG_BF16] = &AG_ISA_FN(ag_r16_bf16),
            [AG_F16] = &AG_ISA_FN(ag_r16_f16),
            [AG_F8_E4M3_128] = &AG_ISA_FN(ag_r16_f8),
        },
    .attend = AG_ISA_FN(ag_attend),
    .glu =
        {
            [AG_ACT_SILU] = AG_ISA_FN(ag_glu_silu),
            [AG_ACT_GELU_TANH] = AG_ISA_FN(ag_glu_gelu_tanh),
            [AG_ACT_GELU_QUICK] = AG_ISA_FN(ag_glu_gelu_quick),
        },
    .glu_grad =
        {
            [AG_ACT_SILU] = AG_ISA_FN(ag_glu_grad_silu),
            [AG_ACT_GELU_TANH] = AG_ISA_FN(ag_glu_grad_gelu_tanh),
            [AG_ACT_GELU_QUICK] = AG_ISA_FN(ag_glu_grad_gelu_quick),
        },
    .sum_squares = AG_ISA_FN(ag_sum_squares),
    .largest = AG_ISA_FN(ag_largest),
    .exps = AG_ISA_FN(ag_exps),
    .exps_bf16 = AG_ISA_FN(ag_exps_bf16),
    .slopes = AG_ISA_FN(ag_slopes),
    .slopes_bf16 = AG_ISA_FN(ag_slopes_bf16),
    .caps = AG_ISA_FN(ag_caps),
    .adamw = AG_ISA_FN(ag_adamw),
    .to_bf16 = AG_ISA_FN(ag_to_bf16),
    .from_bf16 = AG_ISA_FN(ag_from_bf16),
};
