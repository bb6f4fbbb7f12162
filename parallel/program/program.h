/*
 * The program: for each rank, operations on FIFO streams, their dependencies, their buffer uses. It
 * is built in program order, rewritten by passes, then linked: dependencies follow from the uses.
 */
#pragma once

#include "parallel/plan/mesh.h"
#include "runtime/task/dag.h"

typedef enum ag_op_kind {
    AG_OP_SEGMENT,
    AG_OP_SEND,
    AG_OP_RECV,
    AG_OP_ALL_REDUCE,
    AG_OP_REDUCE_SCATTER, /* each rank's share of a sum, to that rank */
    AG_OP_ALL_GATHER,     /* each rank's share to all */
    AG_OP_ALL_TO_ALL,     /* numbers of rows for each rank, or those rows */
    AG_N_OP_KINDS,
} ag_op_kind_t;

typedef enum ag_stream {
    AG_STREAM_COMPUTE,
    AG_STREAM_TENSOR,
    AG_STREAM_OUT, /* messages: one way does not wait for the other */
    AG_STREAM_IN,
    AG_STREAM_COLLECT, /* what is done with what came back, while the next step is computed */
    AG_STREAM_GRAD,    /* sums of gradients, behind the arithmetic */
    AG_N_STREAMS
} ag_stream_t;

/* Streams whose operations are regions of the device's threads: one at a time. */
enum { AG_REGION_STREAMS = 1 << AG_STREAM_COMPUTE | 1 << AG_STREAM_COLLECT };

extern const char *const ag_stream_names[AG_N_STREAMS];

/* What sizes are counted in; the same numbers as runtime/kernel/step.h's ag_counter_t. */
typedef enum ag_size_counter {
    AG_SIZE_ONE,
    AG_SIZE_TOKENS,
    AG_SIZE_OUTPUTS,
    AG_SIZE_SEQUENCES,
    AG_N_STEP_COUNTERS, /* the ones before are a step's, the ones from here on come out of a run */
    AG_SIZE_SENT = AG_N_STEP_COUNTERS,
    AG_SIZE_RECEIVED,
    AG_N_SIZE_COUNTERS,
} ag_size_counter_t;

extern const char *const ag_counter_names[AG_N_SIZE_COUNTERS];

/* The channels of SEND and RECV: a pair's messages are ordered, so one serves all; gradients go
 * back on another, since two ranks that have several chunks each do so in another order. Groups'
 * follow. A program counts its own channels; binding puts them behind those of the job. */
enum { AG_LINK_CHANNEL = 0, AG_BACK_CHANNEL = 30000 };

enum {
    AG_USE_READ = 1,
    AG_USE_WRITE = 2,
    AG_USE_PARTIAL = 4, /* with WRITE: what is written is this rank's part of a sum */
    AG_USE_SHARE = 8,   /* what is read or written is this rank's share: its rows, or its floats */
    AG_USE_ADD = 16,    /* with READ and WRITE: added to what stands there, which stays what it is,
                           whole or a part of a sum */
};

/** Some of the above; a part of a sum only with write, and no share. */
static inline bool ag_use_mode_is_sound(uint32_t mode)
{
    return mode == AG_USE_READ || mode == (AG_USE_READ | AG_USE_SHARE) ||
           mode == (AG_USE_READ | AG_USE_WRITE | AG_USE_ADD) ||
           ((mode & AG_USE_WRITE) && mode < (AG_USE_PARTIAL | AG_USE_SHARE));
}

enum { AG_MAX_MOVED = 4, AG_MAX_USES = 8192 };

/* Which of a step's rows an operation works on: then all its buffers that are counted in tokens are
 * used in these rows alone. */
typedef enum ag_half {
    AG_HALF_BOTH,
    AG_HALF_A, /* the first half, and the odd row */
    AG_HALF_B,
    AG_ROWS_SHARE, /* training: this rank's share of the rows, its alone among the stage's ranks;
                      buffers of one size hold these rows alone */
    AG_N_HALVES,
} ag_half_t;

static inline bool ag_is_half(uint32_t half)
{
    return half == AG_HALF_A || half == AG_HALF_B;
}

/** How many of n rows the half or both are, and the first of them. */
static inline uint64_t ag_half_rows(uint32_t half, uint64_t n)
{
    return half == AG_HALF_BOTH ? n : half == AG_HALF_A ? n - n / 2 : n / 2;
}

static inline uint64_t ag_half_begin(uint32_t half, uint64_t n)
{
    return half == AG_HALF_B ? n - n / 2 : 0;
}

/* One line per op kind: what the text form, the checker and the passes must know of it. */
typedef struct ag_op_info {
    const char *name;
    const char *traced[AG_N_HALVES]; /* its name in a trace, by half */
    bool is_message;                 /* has a peer and a channel */
    bool is_collective;              /* has a group */
    bool has_halves;                 /* may work on half of a step's rows */
    uint32_t n_least, n_uses;        /* of buffers, one number or the other; 0: SEGMENT, any */
    /* In this order. ALL_TO_ALL: what is sent and what is received; where they are rows, how many
     * go to whom, and come from whom. */
    uint32_t uses[AG_MAX_MOVED];
} ag_op_info_t;

extern const ag_op_info_t ag_op_infos[AG_N_OP_KINDS];

typedef struct ag_use {
    uint32_t buffer; /* of the rank */
    uint32_t mode;
} ag_use_t;

/* Where several ranks share an operation: a range of the rank's uses and deps, made by linking. */
typedef struct ag_op {
    uint8_t kind;
    uint8_t stream;
    uint8_t counter; /* of the extent */
    uint8_t half;    /* ag_half_t: of the step's rows */
    uint16_t chunk;  /* which part of the model, in the schedule's numbers */
    uint16_t micro_batch;
    uint64_t unit_bytes; /* of the extent: a message or a collective moves unit_bytes * counter */
    uint32_t subject;    /* SEGMENT: the rank's segment; collective: the program's group */
    int32_t peer;        /* SEND, RECV: world rank; else -1 */
    uint32_t channel;    /* SEND, RECV: the pair's; collective: the group's */
    uint32_t first_use;  /* in the rank's uses */
    uint32_t first_dep;  /* in the rank's deps; filled by linking */
    uint32_t n_deps;
    uint16_t n_uses;
    uint16_t shares; /* REDUCE_SCATTER, ALL_GATHER: the program's, from 1; 0: each rank's rows of
                        the step */
} ag_op_t;

_Static_assert(sizeof(ag_op_t) <= 48, "an operation is 48 bytes: a new fact goes to a side table");

/* Where buffers begin: a cache line, so that no two share one. */
enum { AG_BUFFER_ALIGN_BYTES = 64 };

/* Memory that operations of one rank hand on: unit_bytes * counter, at most `bytes`. */
typedef struct ag_buffer {
    char name[16]; /* of its own on its rank */
    uint32_t counter;
    uint64_t unit_bytes;
    uint64_t bytes;        /* by the class's bounds */
    uint64_t offset_bytes; /* in the slot's memory; set by placing */
} ag_buffer_t;

/* A part of the model that a segment computes; joined segments have several. */
typedef enum ag_part_kind {
    AG_PART_EMBED,
    AG_PART_ATTN,
    AG_PART_FFN,
    AG_PART_ATTN_NORM, /* training: what comes before these in the ranks' shares of the rows */
    AG_PART_FFN_NORM,
    AG_PART_ROUTE, /* this and the next two are the feed-forward part of a layer whose experts
                      several ranks hold */
    AG_PART_EXPERTS,
    AG_PART_COMBINE,
    AG_PART_ADD,
    AG_PART_HEAD,
    AG_PART_COLLECT, /* shards of the logits side by side */
    /* training: */
    AG_PART_ATTN_ADD, /* what attention made, or the feed-forward part, to the residual stream:
                         where a norm stands between them, or the next part has none */
    AG_PART_FFN_ADD,
    AG_PART_LOSS,
    AG_PART_HEAD_B, /* <part>_B: its gradients, but for its first norm's: */
    AG_PART_HEAD_NORM_B,
    AG_PART_FFN_ADD_B,
    AG_PART_FFN_B,
    AG_PART_COMBINE_B, /* in the place of FFN_B, where several ranks hold the experts */
    AG_PART_EXPERTS_B,
    AG_PART_ROUTE_B,
    AG_PART_FFN_NORM_B,
    AG_PART_ATTN_ADD_B,
    AG_PART_ATTN_B,
    AG_PART_ATTN_NORM_B,
    AG_PART_EMBED_B,
    AG_PART_FFN_W, /* of weights, where they are taken later */
    AG_PART_ATTN_W,
    AG_PART_ZERO,  /* gradients begin anew */
    AG_PART_SHARE, /* what other ranks have a part of, too; and their sums */
    AG_PART_SHARED,
    AG_PART_TOTALS, /* this rank's part of the loss, and of the gradients' norm */
    AG_PART_UPDATE, /* the optimizer */
    AG_PART_ADOPT,  /* weights that other ranks have changed */
    AG_N_PART_KINDS,
} ag_part_kind_t;

typedef struct ag_part_info {
    const char *name;
    const char *traced[AG_N_HALVES];
    bool has_layer; /* else its layer is 0 */
} ag_part_info_t;

extern const ag_part_info_t ag_part_infos[AG_N_PART_KINDS];

typedef struct ag_part {
    uint32_t kind;
    uint32_t layer;
} ag_part_t;

/* What is inside is the owner's (a graph); the program knows which parts of the model it covers. */
typedef struct ag_segment {
    ag_array_t parts; /* ag_part_t */
    void *inside;
} ag_segment_t;

typedef struct ag_program_group {
    uint32_t n_ranks;
    uint32_t *ranks; /* (n_ranks) world ranks */
    uint32_t channel;
} ag_program_group_t;

/* How many floats of a buffer are each rank's, one after the other. */
typedef struct ag_program_shares {
    uint32_t n_ranks;
    uint64_t *floats; /* (n_ranks) in the order of the group */
} ag_program_shares_t;

typedef struct ag_rank_program {
    ag_array_t ops;        /* ag_op_t in program order */
    ag_array_t uses;       /* ag_use_t */
    ag_array_t deps;       /* uint32_t operations; filled by linking */
    ag_array_t buffers;    /* ag_buffer_t */
    ag_array_t segments;   /* ag_segment_t */
    uint64_t memory_bytes; /* of a slot; set by placing */
} ag_rank_program_t;

typedef struct ag_program {
    uint64_t bounds[AG_N_SIZE_COUNTERS]; /* the class: the most that a step has */
    uint32_t output_buffer;              /* rank 0's, with the logits (outputs, vocabulary) */
    uint32_t n_ranks;
    ag_rank_program_t *ranks;
    ag_array_t groups; /* ag_program_group_t */
    ag_array_t shares; /* ag_program_shares_t */
    void (*free_inside)(void *inside);
} ag_program_t;

/** Is it a program of training? It begins with gradients of zero. */
bool ag_program_trains(const ag_program_t *program);

/** Is it one of training that goes forward alone, for the loss? */
bool ag_program_evaluates(const ag_program_t *program);

/** An empty program. @param free_inside releases a segment's inside; NULL: nothing to release. */
ag_status_t ag_program_create(uint32_t n_ranks, const uint64_t bounds[AG_N_SIZE_COUNTERS],
                              void (*free_inside)(void *inside), ag_program_t **program_p);
void ag_program_destroy(ag_program_t *program); /* NULL is allowed */

/** Add a buffer to a rank. @param name  that no other of the rank has. @param buffer_p out: its
 * number.
 */
ag_status_t ag_program_add_buffer(ag_program_t *program, uint32_t rank, const char *name,
                                  uint64_t unit_bytes, ag_size_counter_t counter,
                                  uint32_t *buffer_p);

/** Add a segment; takes over inside, also when it fails. */
ag_status_t ag_program_add_segment(ag_program_t *program, uint32_t rank, const ag_part_t *part,
                                   void *inside, uint32_t *segment_p);

/** Append an operation with its uses; op's first_use and n_uses are set here. */
ag_status_t ag_program_add_op(ag_program_t *program, uint32_t rank, const ag_op_t *op,
                              const ag_use_t *uses, uint32_t n_uses);

/** The group of these ranks, added on first asking, with a channel of its own. */
ag_status_t ag_program_group(ag_program_t *program, const uint32_t *ranks, uint32_t n_ranks,
                             uint32_t *group_p);

/** Is a rank in a group? */
bool ag_program_is_member(const ag_program_t *program, uint32_t group, uint32_t rank);

/** These shares of a group's ranks, added on first asking. @param shares_p  out: for ag_op_t. */
ag_status_t ag_program_share_out(ag_program_t *program, const uint64_t *floats, uint32_t n_ranks,
                                 uint16_t *shares_p);

/** An operation's shares; NULL: it has none. */
const ag_program_shares_t *ag_op_shares(const ag_program_t *program, const ag_op_t *op);

/** A sum of a buffer over a group, to be added with ag_program_add_sum(); on the tensor stream, of
 * chunk and micro-batch 0. */
ag_op_t ag_program_sum(const ag_program_t *program, uint32_t rank, uint32_t group, uint32_t buffer);
ag_status_t ag_program_add_sum(ag_program_t *program, uint32_t rank, const ag_op_t *sum,
                               uint32_t buffer);

/** Add a use to an operation that is already there. */
ag_status_t ag_program_add_use(ag_program_t *program, uint32_t rank, uint32_t op,
                               const ag_use_t *use);

/**
 * Derive each operation's dependencies from program order: it waits for the last writer of what it
 * reads, and for the readers and the writer of what it overwrites, where they are on other streams.
 */
ag_status_t ag_program_link(ag_program_t *program);

/** A rank's dag, with the same indices. Linked programs only. */
ag_status_t ag_program_dag(const ag_program_t *program, uint32_t rank, ag_dag_t *dag_p);

static inline ag_op_t *ag_rank_ops(const ag_rank_program_t *rank)
{
    return AG_ITEMS(&rank->ops, ag_op_t);
}

/** Does an operation that uses a buffer use the rows of a half, AG_HALF_A or AG_HALF_B? */
static inline bool ag_op_meets_half(const ag_op_t *op, const ag_buffer_t *buffer, uint32_t half)
{
    return !ag_is_half(op->half) || op->half == half || buffer->counter != AG_SIZE_TOKENS;
}

static inline const ag_use_t *ag_op_uses(const ag_rank_program_t *rank, const ag_op_t *op)
{
    return AG_ITEMS(&rank->uses, ag_use_t) + op->first_use;
}

/** Is it a segment whose first part is of a kind? */
static inline bool ag_op_begins_with(const ag_rank_program_t *rank, const ag_op_t *op,
                                     ag_part_kind_t kind)
{
    const ag_segment_t *segments = AG_ITEMS(&rank->segments, ag_segment_t);

    return op->kind == AG_OP_SEGMENT &&
           AG_ITEMS(&segments[op->subject].parts, ag_part_t)[0].kind == (uint32_t)kind;
}
