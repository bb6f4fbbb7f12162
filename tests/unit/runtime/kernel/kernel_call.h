/* Running a kernel on teams of several sizes, and random data for it. */
#pragma once

#include "runtime/kernel/kernel_priv.h"

typedef struct kernel_call {
    void (*fn)(const ag_kernel_context_t *context, const void *arg, float *y);
    const void *arg;
    const ag_step_t *step; /* NULL: the kernel needs none */
    size_t scratch_bytes;
    ag_gemm_cache_t *gemm;   /* for MOST_THREADS threads */
    const ag_isa_t *isa;     /* NULL: plain C */
    const float *y_at_first; /* what y holds before; NULL: what no kernel writes */
    bool yields;             /* one thread must look at communication while it works */
} kernel_call_t;

enum { MOST_THREADS = 5, N_ISAS = 4 };

/** The i-th of plain C (NULL) and the instruction sets. @return whether this machine has it. */
bool isa_at(int i, const ag_isa_t **isa_p);

/**
 * Run the kernel on 1, 2, 3 and 5 threads, some of uneven speeds, and see that y (n floats) has the
 * same bits each time. Scratch and y are as large as said and no larger, so that the sanitizer sees
 * every step too far.
 * @return y; free() it.
 */
float *kernel_call(const kernel_call_t *call, uint64_t n, const char *what);

/** n floats in [-scale, scale), the same for the same seed; free() them. Never NULL. */
float *random_floats(uint64_t seed, uint64_t n, double scale);

/** An integer in [0, n). */
uint64_t random_below(uint64_t seed, uint64_t index, uint64_t n);

/** n elements encoded as dtype (whole blocks), their values below 1 or so; free() them. */
void *random_weights(ag_dtype_t dtype, uint64_t seed, uint64_t n);

/** What weights decode to; free() it. */
float *decode(ag_dtype_t dtype, const void *weights, uint64_t n);

/** malloc that never gives NULL: n_bytes may be 0. */
void *take(size_t n_bytes);

/** The activation as its mathematics says. */
double act_of(ag_act_t act, double x);

/** act(gate) * up, within their limits. */
double glu_of(const ag_glu_t *glu, double gate, double up);
