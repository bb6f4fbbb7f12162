/* Element types: each is one row of a table and one unpack function. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/tensor/half.h"

typedef enum ag_dtype {
    AG_F32,
    AG_F16,
    AG_BF16,
    AG_Q8_0,
    AG_Q4_0,
    AG_Q4_1,
    AG_Q6_K,
    AG_Q4_K,
    AG_Q5_0,
    AG_Q5_1,
    AG_MXFP4,
    AG_Q5_K,
    AG_Q2_K,
    AG_Q3_K,
    AG_IQ4_NL,
    AG_IQ4_XS,
    AG_F8_E4M3,     /* OCP's, without infinities */
    AG_F8_E4M3_128, /* a float32 scale, then 128 of them: what readers make of scales apart */
    AG_N_DTYPES,
} ag_dtype_t;

typedef struct ag_dtype_info {
    const char *name;        /* "q4_0", as --type and the plan spell it */
    const char *safetensors; /* "BF16"; NULL: not a safetensors type */
    int32_t ggml_type;       /* the number in a GGUF file; -1: not a type of GGUF */
    uint32_t block_elements; /* 1 for plain types */
    uint32_t block_bytes;
    /** Decode n_blocks blocks to n_blocks * block_elements floats; d*q+m unfused, as ggml does. */
    void (*unpack)(const void *blocks, float *dst, size_t n_blocks);
    /**
     * Encode n_blocks * block_elements finite floats: plain types round to nearest even, blocks of
     * 32 have the bits of ggml's reference. What unpack gives is not always packed to what it was.
     * NULL: the type is only read.
     */
    void (*pack)(const float *src, void *blocks, size_t n_blocks);
} ag_dtype_info_t;

/** The type's row; dtype must be valid. */
const ag_dtype_info_t *ag_dtype_info(ag_dtype_t dtype);

/* Look-ups for readers; AG_ERR_UNSUPPORTED lists the known types. `what` names file and tensor. */
ag_status_t ag_dtype_from_ggml(int32_t ggml_type, const char *what, ag_dtype_t *dtype_p);
ag_status_t ag_dtype_from_safetensors(const char *name, const char *what, ag_dtype_t *dtype_p);
ag_status_t ag_dtype_from_name(const char *name, ag_dtype_t *dtype_p);

/** A type by its name that has a `pack`; the error lists these. */
ag_status_t ag_dtype_to_write(const char *name, ag_dtype_t *dtype_p);

/** Bytes of n elements; n must be a multiple of block_elements. */
static inline size_t ag_dtype_bytes(ag_dtype_t dtype, size_t n)
{
    const ag_dtype_info_t *info = ag_dtype_info(dtype);

    return n / info->block_elements * info->block_bytes;
}
