/*
 * The plan: every decision of a job. Made from options, printed and read as JSON, compared by hash
 * on all ranks. Immutable once made.
 */
#pragma once

#include "parallel/plan/layout.h"
#include "runtime/base/json.h"
#include "runtime/tensor/dtype.h"

typedef enum ag_compute {
    AG_COMPUTE_AUTO, /* fastest kernels, f16 cache */
    AG_COMPUTE_F32,  /* exact: weights unpacked to f32, f32 activations and cache */
} ag_compute_t;

/* Ranks that compute the same layers on their own part of the tensors. */
typedef struct ag_replica {
    uint32_t n_ranks;
    uint32_t *ranks;  /* (n_ranks) world ranks */
    uint32_t *shares; /* (n_ranks) proportions */
    uint32_t micro_batches;
    uint32_t turns;        /* training: these, and behind them empty ones, where a replica that it
                              exchanges rows for experts with has more; not in the file */
    uint32_t tensor_ranks; /* that share attention out: n_ranks, or 1: each has all of it */
} ag_replica_t;

/* Who holds each expert of a stage's layers. */
typedef struct ag_holders {
    uint32_t n_experts; /* 0: the model has none */
    uint32_t *begin;    /* (n_experts + 1) in ranks */
    uint32_t *ranks;    /* world ranks, of any replica; of an expert one at least */
} ag_holders_t;

/* A run of layers, half-open. */
typedef struct ag_layers {
    uint32_t begin, end;
} ag_layers_t;

typedef struct ag_stage {
    uint32_t layer_begin, layer_end; /* half-open; of several chunks the first's and the last's */
    ag_layers_t *chunks; /* training, where it has several: (virtual_stages); else NULL */
    uint32_t n_replicas;
    ag_replica_t *replicas;
    ag_holders_t experts;
} ag_stage_t;

/** Where the run of replicas that begins at `begin` ends: together they hold every expert, and send
 * each other rows. What is left at the end and holds fewer belongs to the last run. */
uint32_t ag_stage_experts_end(const ag_stage_t *stage, uint32_t begin);

/** Does every replica hold all experts, in the same way? */
bool ag_stage_experts_are_alike(const ag_stage_t *stage);

enum { AG_SCHEDULE_CHARS = 16, AG_MOST_REPLICAS = 4096 };
#define AG_SCHEDULE_DEFAULT "1f1b"

/* What training decides besides. */
/* What may be left to the default. */
typedef enum ag_choice {
    AG_CHOICE_DEFAULT,
    AG_CHOICE_ON,
    AG_CHOICE_OFF,
} ag_choice_t;

typedef struct ag_plan_train {
    uint32_t sequence_tokens;         /* of a row of the data; 0: the plan is for inference */
    uint32_t micro_batch_size;        /* rows of a micro-batch */
    char schedule[AG_SCHEDULE_CHARS]; /* the name of its generator */
    uint32_t virtual_stages;          /* chunks of layers that a stage has */
    uint32_t zero_stage;              /* 1: replicas share the optimizer's state out */
    bool recompute;         /* a layer's activations are computed again, only its input is kept */
    bool split_backward;    /* gradients of weights have a work of their own, behind the inputs' */
    bool sequence_parallel; /* ranks of a layer do what stands between its sums for their share of
                               the rows alone */
} ag_plan_train_t;

typedef struct ag_plan {
    char spec_hash[17]; /* of the model, 16 hexadecimal digits */
    char family[32];
    uint32_t n_stages;
    ag_stage_t *stages;
    ag_compute_t compute;
    uint32_t context_tokens; /* positions a sequence may have */
    uint32_t batch_tokens;   /* most rows a step has (prefill is cut into such chunks) */
    uint32_t n_sequences;    /* most sequences at once */
    uint32_t overlap_tokens; /* steps of so many rows run in two halves, so that one's sums over
                                ranks hide behind the other's arithmetic; 0: none does */
    ag_dtype_t kv_type;      /* AG_F32 or AG_F16 */
    uint32_t n_budgets;      /* 0, or one per rank */
    uint64_t *budget_bytes;  /* (n_budgets) DRAM; outside the hash, as host names are */
    ag_plan_train_t train;
} ag_plan_t;

/* What the plan must know of a model. */
typedef struct ag_plan_model {
    char spec_hash[17];
    const char *family;
    uint32_t n_layers;
    uint32_t context_tokens; /* the model's own limit */
    uint32_t n_experts;      /* of a layer that has some; 0: none has */
    bool norms_elsewhere;    /* not before each part of a layer alone: ranks do them of all rows */
} ag_plan_model_t;

/* Options as the user gave them; NULL or 0 is "not given". */
typedef struct ag_plan_opts {
    const char *tp; /* "2", or "2,1" a degree per stage */
    uint32_t pp;    /* stages */
    const char
        *tensor_split; /* "5,4", or "5,4;1" per stage: proportions, one per rank of the stage */
    const char *ep;    /* ranks that share a copy of the experts out; "2", or "2,1" per stage */
    const char *expert_split;   /* "3,2", or "3,2;5" per stage: experts of each rank */
    const char *pipeline_split; /* "20,10": layers per stage; must add up */
    const char *max_memory;     /* "2G" or "2G,1G,…": bytes per rank, suffixes K M G T (1024) */
    ag_compute_t compute;
    uint32_t context_tokens;    /* 0 = the model's */
    uint32_t batch_tokens;      /* 0 = 512 */
    uint32_t n_sequences;       /* 0 = 1 */
    const char *overlap_tokens; /* "256": rows of a step; "0": never; NULL: "128" */
    /* training: */
    uint32_t sequence_tokens;   /* 0: the plan is for inference */
    uint32_t dp;                /* replicas of each stage; 0 = 1 */
    uint32_t micro_batch_size;  /* rows; 0 = 1 */
    uint32_t global_batch_size; /* rows; 0: one micro-batch a replica */
    const char *micro_batches;  /* "5,3": of each replica */
    const char *schedule;       /* NULL: "1f1b" */
    uint32_t virtual_stages;    /* 0 = 1 */
    uint32_t zero_stage;
    bool recompute;
    ag_choice_t sequence_parallel; /* by default in f32, of models that have such norms */
    bool split_backward;
} ag_plan_opts_t;

/**
 * Fill a plan from options. Ranks are numbered stage by stage; of a stage there are max(tp, ep),
 * and tp is 1 or ep, which is tp where it is not given. In training there are tp * dp, and ep says
 * how many of them hold a copy of the experts; without tp and dp it is dp, too. Layers without
 * --pipeline-split are given out evenly, the first stages getting the remainder.
 * @return AG_OK; AG_ERR_INVALID with the option at fault and what would do: numbers that do not
 * parse or add up, more stages than layers, a stage without layers, a degree list whose length is
 * not the number of stages, zero shares, experts that do not add up or that the model has not, a
 * context beyond the model's.
 */
ag_status_t ag_plan_make(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                         ag_plan_t **plan_p);
void ag_plan_destroy(ag_plan_t *plan); /* NULL is allowed */

/** The same job on one rank, without budgets. */
ag_status_t ag_plan_on_one(const ag_plan_t *plan, ag_plan_t **one_p);

/** Number of ranks: the sum over stages and replicas. */
uint32_t ag_plan_ranks(const ag_plan_t *plan);

/** Chunks of a stage: one, but of an interleaved pipeline. */
uint32_t ag_plan_chunks(const ag_plan_t *plan);

/** The layers of a chunk, in model order: chunk c is stage (c mod stages)'s. */
ag_layers_t ag_plan_layers(const ag_plan_t *plan, uint32_t chunk);

/** Do a replica's ranks share the rows of the residual stream and its norms out? */
bool ag_plan_shares_rows(const ag_plan_t *plan, const ag_replica_t *replica);

/** Do replicas share the optimizer out? */
bool ag_plan_shares_update(const ag_plan_t *plan);

/** Does training round to bfloat16 what products read, and keep it so? */
static inline bool ag_plan_rounds(const ag_plan_t *plan)
{
    return plan->train.sequence_tokens > 0 && plan->compute != AG_COMPUTE_F32;
}

/** Then how many of n floats are each replica's: (replicas). */
ag_status_t ag_plan_share_floats(const ag_plan_t *plan, uint64_t n, uint64_t *floats);

/** Micro-batches of a step of training, of all replicas; those of one follow those of the one
 * before. */
uint32_t ag_plan_micro_batches(const ag_plan_t *plan);

/** The number of a replica's first turn; programs call micro-batches by these numbers. */
uint32_t ag_plan_first_turn(const ag_plan_t *plan, uint32_t replica);

/** Is there no micro-batch of the replica's at this turn, of all replicas' turns? */
bool ag_plan_turn_is_empty(const ag_plan_t *plan, uint32_t turn);

/** Steps that are on their way along the ranks at once: of training, one for each turn. */
uint32_t ag_plan_steps(const ag_plan_t *plan);

/** Runs of a program that are in flight at once, each in a slot of activation memory: one for each
 * stage; of training one. */
uint32_t ag_plan_slots(const ag_plan_t *plan);

/** Sequences that a step may have: the plan's, shared out over the steps in flight. */
uint32_t ag_plan_step_sequences(const ag_plan_t *plan);

/* Is there a plan by these options, and can the job carry it out? Takes nothing. */
typedef struct ag_plan_trial {
    bool (*works)(void *arg, const ag_plan_opts_t *opts);
    void *arg;
} ag_plan_trial_t;

/**
 * Refuse a job whose number of ranks is not the plan's; the error says what would do, for instance
 * "the plan has 2 ranks (--tp 2), but 4 were started: run mpirun -n 2, or give --tp 4, or --tp 2
 * --pp 2, or --pp 4 instead".
 * @param opts   as the user gave them, that the plan was made of; NULL: it came from a file.
 * @param trial  what it refuses is not named.
 */
ag_status_t ag_plan_check_ranks(const ag_plan_t *plan, const ag_plan_opts_t *opts,
                                uint32_t n_started, const ag_plan_trial_t *trial);

/**
 * Those of the options that say how many ranks there are, as they were given: "--tp 2 --pp 3"; a
 * long value is left out. @param opts  NULL: a file, which is "--plan".
 */
void ag_plan_opts_text(const ag_plan_opts_t *opts, char *text, size_t n_bytes);

/** Refuse a plan made for another model (hash, layers, experts). */
ag_status_t ag_plan_check_model(const ag_plan_t *plan, const ag_plan_model_t *model);

/** As JSON ("argosy_plan": 1 …), DESIGN section 1; the caller may add members before printing. */
ag_json_t *ag_plan_to_json(const ag_plan_t *plan);

/**
 * From JSON; the number of "argosy_plan" must be 1, "hash" and "predicted" are remarks that are
 * passed over. Everything is checked: no member that is unknown, layers contiguous from 0, ranks
 * 0..n-1 each once, shares not all zero. An error names the file and the member, like
 * stages[1].replicas[0].shares[2].
 * @param what  names the file in errors.
 * @return AG_OK, AG_ERR_INVALID.
 */
ag_status_t ag_plan_from_json(const ag_json_t *json, const char *what, ag_plan_t **plan_p);

/** Hash of all that is inside it (budgets left out). @param hash  out: 16 hexadecimal digits. */
ag_status_t ag_plan_hash(const ag_plan_t *plan, char hash[17]);
