/* What an export is made of. */
#pragma once

#include "runtime/file/tensor_writer.h"
#include "runtime/model/export.h"

enum { AG_EXPORT_FUSED = 2 };

/* A tensor of the files that are written: one weight, or one of every expert, or those of several
 * roles. */
typedef struct ag_export_tensor {
    char name[AG_TENSOR_NAME_BYTES];
    ag_dtype_t dtype;
    uint32_t n_dims;
    uint64_t dims[AG_MAX_DIMS];
    ag_stack_t stack;
    ag_transform_t transform;
    uint32_t head_dim;    /* of the transform: rows of a head */
    ag_head_rows_t heads; /* whose rows of the first weight and the second take turns */
    uint32_t n_experts;   /* whose weights stand one after the other; 0: it is one weight */
    bool by_turns;        /* of each expert, rows of the first and of the other take turns */
    ag_weight_t weight;   /* of the first */
    ag_weight_t others[AG_EXPORT_FUSED]; /* (n_others) of other roles, behind it */
    uint32_t n_others;
} ag_export_tensor_t;

struct ag_export {
    const ag_model_t *model;
    const ag_weight_source_t *source;
    ag_export_opts_t opts;
    ag_array_t tensors;  /* ag_export_tensor_t */
    float *rope_factors; /* (rotary / 2) that a GGUF file gets as a tensor, or (2, rotary / 2) as
                            two; NULL: none */
    ag_export_facts_t facts;
    uint64_t done_bytes;
};

/** Bytes of a tensor. */
uint64_t ag_export_tensor_bytes(const ag_export_tensor_t *tensor);

/** Is it rope_factors, or half of them? */
bool ag_export_is_rope(const ag_export_tensor_t *tensor);

/** Declare tensors [begin, end) and write them. */
ag_status_t ag_export_stream(ag_export_t *export, size_t begin, size_t end,
                             ag_tensor_writer_t *writer);

/** The divisors that a rope's frequencies were made with, of a longrope both lists; *factors_p is
 * NULL where there are none. */
ag_status_t ag_export_rope_factors(const ag_model_t *model, float **factors_p);

/**
 * The rope as config files say it: one whose divisors a GGUF file lists becomes a llama3 rope.
 * @return AG_OK; AG_ERR_UNSUPPORTED: no such rope has those divisors.
 */
ag_status_t ag_export_rope(const ag_model_t *model, ag_rope_spec_t *rope);
