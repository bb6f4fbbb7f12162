/* Answers on their way to standard output, in the order of their prompts. */
#pragma once

#include "launch/command.h"

/* Prompts: ids, ready to run. */
typedef struct ag_prompts {
    ag_array_t ids;     /* int32_t: all prompts', one after the other */
    ag_array_t ends;    /* size_t: where each one's end */
    int32_t answer_end; /* a token that ends an answer, beside the tokenizer's; -1: none */
} ag_prompts_t;

/**
 * Rank 0: what the options name, as ids; its memory is counted as input.
 * @param prompts  made by the caller, with empty arrays.
 */
ag_status_t ag_prompts_gather(ag_session_t *session, ag_prompts_t *prompts);

/** Ids of a prompt. @param n_ids_p  out. */
const int32_t *ag_prompt_ids(const ag_prompts_t *prompts, size_t number, size_t *n_ids_p);

/** Bytes that a prompt takes beside its ids while it is answered. */
uint64_t ag_prompt_bytes(void);

/**
 * Rank 0: answer all prompts, stop the job, tell its figures. Texts go out in the order of the
 * prompts, each as it is made from when those before it are complete.
 * @return as ag_generate(); AG_ERR_INTERRUPTED; AG_ERR_IO: standard output.
 */
ag_status_t ag_answer_all(ag_session_t *session, const ag_prompts_t *prompts);
