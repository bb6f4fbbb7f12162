/* The loops that compose steps. Rank 0 runs them; the other ranks follow (job.h). */
#pragma once

#include "parallel/run/job.h"
#include "runtime/model/sampling.h"

typedef enum ag_stop {
    AG_STOP_END,    /* an end token */
    AG_STOP_LENGTH, /* max_tokens, or the context is full */
    AG_STOP_TEXT,   /* the caller's sink asked for it */
    AG_STOP_INTERRUPTED,
} ag_stop_t;

/* A prompt, and what was made of it. */
typedef struct ag_answer {
    const int32_t *prompt; /* (n_prompt) ids below the vocabulary; borrowed */
    size_t n_prompt;       /* at least one */
    uint64_t stream;       /* of the sampler's seed: the number of the prompt */
    ag_array_t tokens; /* out: int32_t; the caller's to make, empty, and to release. An end token
                          is not among them, unless ignored */
    ag_stop_t stop;    /* out: also where there was no turn for it: INTERRUPTED */
} ag_answer_t;

/* What ag_generate() tells its caller; each may be NULL. */
typedef struct ag_driver_calls {
    /** A token was chosen. @return true: enough (its text holds a stop string). */
    bool (*on_token)(void *arg, ag_answer_t *answer, int32_t id, ag_status_t *status);
    bool (*is_end)(void *arg, int32_t id);
    /** An answer is complete. */
    ag_status_t (*on_answer)(void *arg, ag_answer_t *answer);
    /** After the tokens of each step: what is done here takes none of the run's time. */
    void (*pause)(void *arg);
    void *arg;
} ag_driver_calls_t;

typedef struct ag_generate_opts {
    const ag_sampling_t *sampling;
    uint32_t max_tokens; /* of an answer; 0: none is made */
    bool ignore_end;     /* run on past end tokens, which then count as tokens */
    ag_driver_calls_t calls;
} ag_generate_opts_t;

/* What the steps of a phase did, for its figures. */
typedef struct ag_phase {
    uint64_t steps, tokens, outputs, sequences; /* each the sum over the steps */
    ag_attended_t attended;
    uint64_t ns;         /* all of it: steps, what is made of their logits, the caller's calls; of
                            steps in flight together each has from the end of the one before */
    uint64_t compute_ns; /* of these, what rank 0 computed in */
    uint64_t waits_ns[AG_N_OP_KINDS]; /* and what it waited in for operations of a kind */
    uint64_t sampling_ns;             /* and choosing tokens */
    ag_profile_t profile;             /* of rank 0 */
} ag_phase_t;

typedef struct ag_run_figures {
    ag_phase_t prefill, decode;
} ag_run_figures_t;

/**
 * Ids against the vocabulary.
 * @param what  where they come from, for the error.
 */
ag_status_t ag_check_ids(const ag_model_t *model, const char *what, const int32_t *ids, size_t n);

/**
 * Answer prompts: as many at a time as the plan has sequences, dealt over as many steps in flight
 * as it has stages; one begins when another ends. A prompt is prefilled in chunks of the plan's
 * batch, then decoded a token at a time. What an answer is does not depend on those beside it.
 * @param answers  (n_answers)
 * @param figures  added to.
 * @return AG_OK, also where it was interrupted; AG_ERR_INVALID (a prompt that is empty, too long
 * for the context, or has an id out of range), a call's failure, or a step's.
 */
ag_status_t ag_generate(ag_job_t *job, ag_answer_t *answers, size_t n_answers,
                        const ag_generate_opts_t *opts, ag_run_figures_t *figures);

/** Bytes that ag_generate() takes for a plan's sequences and their steps: at most, and more than
 * any other driver; its sampler's are not among them. */
uint64_t ag_generate_bytes(const ag_plan_t *plan);

typedef struct ag_eval_opts {
    uint32_t window_tokens; /* tokens are cut into windows of this many, each on its own */
    int32_t bos;            /* put before each window, outside its count; -1: none */
    /** Logits (n_rows, vocabulary) of every position run, in order; NULL: not wanted. */
    ag_status_t (*on_logits)(void *arg, const float *logits, uint64_t n_rows);
    void *arg;
} ag_eval_opts_t;

typedef struct ag_eval_result {
    uint64_t n_predicted;
    double nll_sum; /* natural logarithm */
} ag_eval_result_t;

/** Mean negative log likelihood of tokens. @return as ag_generate(); AG_ERR_INTERRUPTED. */
ag_status_t ag_eval(ag_job_t *job, const int32_t *tokens, size_t n_tokens,
                    const ag_eval_opts_t *opts, ag_eval_result_t *result,
                    ag_run_figures_t *figures);

typedef struct ag_replay_opts {
    const int32_t *tokens; /* (n_tokens) */
    uint64_t n_tokens;
    uint64_t n_prefill; /* the first of them go in chunks, the others each in a step of its own */
    uint32_t chunk_tokens; /* at most the plan's batch */
    /** Logits (n_rows, vocabulary) of the tokens from this one on, in order. */
    ag_status_t (*on_logits)(void *arg, uint64_t token, const float *logits, uint32_t n_rows);
    void *arg;
} ag_replay_opts_t;

/**
 * Run known tokens as a generation would, and hand out the logits of all.
 * The job's programs must be made for all outputs.
 * @return AG_OK; AG_ERR_INVALID: more tokens than the context holds, or larger chunks than the
 *         batch; AG_ERR_INTERRUPTED; the call's failure, or a step's.
 */
ag_status_t ag_replay(ag_job_t *job, const ag_replay_opts_t *opts);
