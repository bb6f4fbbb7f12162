#pragma once

#include "parallel/pass/holdings_priv.h"
#include "parallel/pass/pass.h"
#include "runtime/graph/backward.h"

/** From which rank of one replica each rank of the next gets the residual stream.
 * @param copies  ag_reshard_copy_t items, appended. */
ag_status_t ag_expand_copies(const ag_build_t *build, const ag_replica_t *from,
                             const ag_replica_t *to, ag_array_t *copies);

/** Append what a part of the model computes, forward, to a graph. @param pending  of attention: the
 * partial sum of the layer before has yet to be added. */
ag_status_t ag_expand_emit(const ag_block_t *block, const ag_part_t *part, bool pending,
                           ag_graph_t *graph);

/** An empty graph, the program's to release once it is a segment's. */
ag_status_t ag_expand_graph(ag_graph_t **graph_p);

/* What expanding a program of inference works on. */

enum { AG_EXPAND_USES = 5 }; /* of a part */

/* The buffers of a rank, and where its emission stands. */
typedef struct ag_expand_rank {
    uint32_t x, partial, logits;
    uint32_t routes, n_sent, sent, n_received, received; /* where ranks share experts out */
    bool pending; /* partial holds what has yet to be added to x */
} ag_expand_rank_t;

typedef struct ag_expand {
    ag_program_t *program;
    ag_build_t *build;
    ag_expand_rank_t *ranks;
    uint16_t chunk, micro_batch;
} ag_expand_t;

/** A rank's buffers. */
ag_status_t ag_expand_buffers(ag_expand_t *expand, uint32_t rank);

/** A part's place in the model, and the buffers that it reads and writes; partial sums where
 * several ranks hold shares. @return how many. */
ag_block_t ag_expand_block(const ag_expand_t *expand, uint32_t rank);
uint32_t ag_expand_uses(const ag_expand_t *expand, uint32_t rank, const ag_part_t *part,
                        ag_use_t uses[AG_EXPAND_USES]);
ag_status_t ag_expand_emit_part(const ag_expand_t *expand, uint32_t rank, const ag_part_t *part,
                                ag_graph_t *graph);

/** Add a graph as a segment, which takes it over. */
ag_status_t ag_expand_segment(const ag_expand_t *expand, uint32_t rank, const ag_part_t *part,
                              ag_graph_t *graph, const ag_use_t *uses, uint32_t n_uses);

/** A message between two ranks' buffers. */
ag_status_t ag_expand_message(const ag_expand_t *expand, uint32_t from, uint32_t from_buffer,
                              uint32_t to, uint32_t to_buffer);

/** The shards of the logits come to rank 0, which puts them side by side. */
ag_status_t ag_expand_logits(ag_expand_t *expand, const ag_replica_t *last);

/* What expanding a training program works on. */

enum { AG_NO_BUFFER = UINT32_MAX };

/* What a layer leaves for its gradients whose experts several ranks hold: the buffers as ag_block_t
 * has them, and what else gradients of the experts read. */
typedef struct ag_train_experts {
    uint32_t routes, n_sent, received, returned, kept;
} ag_train_experts_t;

/* What one micro-batch on its way leaves for its gradients, of one chunk on one rank: by number of
 * the layer in the chunk. */
typedef struct ag_train_slot {
    uint32_t input;    /* the chunk's */
    uint32_t output;   /* the residual stream behind the last layer: the head's, or handed on */
    uint32_t *x;       /* (2 * layers) the residual stream that attention, and the feed-forward
                          part, read; AG_NO_BUFFER: not there yet */
    uint32_t *kept;    /* (2 * layers) what else their gradients read */
    uint32_t *partial; /* (2 * layers) what each part makes; where no norm follows, all have one */
    ag_train_experts_t *experts; /* (layers) */
    uint32_t handed;             /* of the chunk's: between its two backward items */
    uint16_t micro_batch;        /* whose it is */
    bool is_taken;
} ag_train_slot_t;

/* What gradients of weights that come later read of those of inputs, by part. */
typedef struct ag_train_handed {
    uint32_t *buffers; /* (2 * layers) */
    bool is_taken;
} ag_train_handed_t;

/* A chunk of the model on one rank. */
typedef struct ag_train_chunk {
    uint16_t number; /* in model order */
    bool first, last;
    ag_layers_t layers;
    uint32_t dx[2];     /* gradients of the residual stream, in turn */
    uint32_t out[2];    /* what is handed on, in turn */
    uint32_t n_slots;   /* micro-batches on their way, at most */
    ag_array_t slots;   /* ag_train_slot_t */
    ag_array_t handed;  /* ag_train_handed_t */
    ag_array_t inputs;  /* uint32_t buffers that the chunk's input comes to, in turn */
    uint32_t n_inputs;  /* items so far: forward, */
    uint32_t n_outputs; /* and backward */
} ag_train_chunk_t;

typedef struct ag_train_rank {
    uint32_t rank;
    uint32_t p;        /* what parts make behind which no norm stands */
    uint32_t dn;       /* the gradient of what a part reads */
    uint32_t dpartial; /* of what a part makes; where no norm follows, that is the residual
                          stream's */
    /* Where ranks share the rows of the residual stream out, what it leaves is packed: a buffer of
     * one size has this rank's rows. What a part's norm makes of all ranks' rows stands in one of
     * two buffers, in turn. */
    bool shares_rows;
    uint32_t normed[2];
    uint32_t normed_part[2]; /* of the item under way, whose: AG_NO_BUFFER: nobody's */
    uint32_t last_normed;
    /* Where layers are computed again, of one at a time: what the feed-forward part reads, what
     * the gradients of each part do, and where norms follow what each makes. */
    uint32_t x_again, kept_again[2], partial_again[2];
    ag_train_experts_t experts_again;
    /* Where several ranks hold the experts: copies of rows and gradients on their way from this
     * rank and back, rows of others and what is made of them, gradients of routes' weights. */
    uint32_t sent, work, n_received, droutes;
    uint32_t logits, statistics, dhead; /* of the last stage */
    uint32_t loss, squares, totals;
    uint32_t n_chunks;
    ag_train_chunk_t *chunks; /* (n_chunks) */
    ag_array_t buckets;       /* uint32_t buffers: runs of weights whose gradients lie together */
    uint32_t n_input_names;
    uint32_t stream[2]; /* of the residual stream, in turn, where ag_train_passes() */
    /* of the part that is being written: */
    uint32_t partial;           /* what it makes, or adds */
    bool pending;               /* p holds what has yet to be added */
    uint32_t last_layer;        /* of its chunk */
    ag_train_experts_t experts; /* of its layer */
    uint32_t handed_buffer;     /* what it hands on; AG_NO_BUFFER: nobody wants it */
    uint64_t handed_bytes;
    uint32_t kept_buffer; /* and how much is in use of it */
    uint64_t kept_bytes;
} ag_train_rank_t;

typedef struct ag_train {
    ag_program_t *program;
    ag_build_t *build;
    ag_train_rank_t *ranks; /* (n_ranks) */
    ag_holdings_t holdings;
    uint16_t chunk, micro_batch;
    bool evaluates; /* nothing goes back, nothing changes */
    bool again;     /* of a layer its input is kept at most */
} ag_train_t;

/** Register the weights of every rank, and make the buffers that do not depend on the schedule. */
ag_status_t ag_train_init(ag_program_t *program, ag_build_t *build, bool evaluates,
                          ag_train_t *train_p);
void ag_train_fini(ag_train_t *train);

/** Does the residual stream pass through two buffers, of which parts keep rounded copies? Of a
 * share of its rows all is kept. */
static inline bool ag_train_passes(const ag_train_t *train, uint32_t rank)
{
    return ag_plan_rounds(train->build->plan) && !train->again && !train->ranks[rank].shares_rows;
}

/** A slot that no micro-batch has, with an input for it. */
ag_status_t ag_train_take_slot(ag_train_t *train, uint32_t rank, ag_train_chunk_t *chunk,
                               uint16_t micro_batch, ag_train_slot_t **slot_p);

/** The next bytes of a buffer that grows by what is put into it; *used_bytes so far. */
void ag_train_reserve(const ag_train_t *train, uint32_t rank, uint32_t buffer, uint64_t bytes,
                      uint64_t *used_bytes, int32_t *buffer_p, uint64_t *begin_bytes_p);

/** Emit a part's forward graph. @param x, x_out  buffers of the residual stream. */
ag_status_t ag_train_emit(const ag_train_t *train, uint32_t rank, const ag_part_t *part, uint32_t x,
                          uint32_t x_out, ag_graph_t *graph);

/* Whose values are kept, and whose weights have gradients. */
typedef struct ag_train_keeper {
    const ag_train_t *train;
    ag_train_rank_t *rank;
} ag_train_keeper_t;

/** Opts' params and callbacks. @param keeper  borrowed as long as opts. */
void ag_train_bind(ag_train_keeper_t *keeper, ag_backward_opts_t *opts);

/** Add a graph as a segment; its uses follow from its nodes. Takes the graph over.
 * @param sum  the buffer that is left as a part of a sum where the stage has several ranks. */
ag_status_t ag_train_add(const ag_train_t *train, uint32_t rank, const ag_part_t *part,
                         ag_graph_t *graph, uint32_t sum);

/** The same of a graph that works on this rank's share of the rows. */
ag_status_t ag_train_add_rows(const ag_train_t *train, uint32_t rank, const ag_part_t *part,
                              ag_graph_t *graph);

/** The same with these uses before all others, which passes find there. */
ag_status_t ag_train_add_using(const ag_train_t *train, uint32_t rank, const ag_part_t *part,
                               ag_graph_t *graph, uint32_t sum, const ag_use_t *first,
                               uint32_t n_first);

/** Are what a layer's parts make normed, so that parts of their own add it? */
bool ag_train_norms_after(const ag_train_t *train, uint32_t layer);

/** Where the gradient of the residual stream that a layer's part reads goes: behind its norm to
 * what is there; without one, parts of a sum over the ranks, to dn first. */
ag_backward_grad_t ag_train_input_grad(const ag_train_t *train, uint32_t layer, uint32_t x,
                                       uint32_t dx, uint32_t dn);

/* A part's graphs: forward, and its gradients up to its norm's and from there on. */
typedef struct ag_train_graphs {
    ag_graph_t *forward, *first, *second, *weights; /* NULL: a segment has it */
} ag_train_graphs_t;

ag_status_t ag_train_graphs_init(ag_train_graphs_t *graphs);

/** Of a rank that has no heads or columns, which has nothing to add to a sum over the ranks but
 * takes part in it: where nothing in the graph writes dn, it becomes zero. */
ag_status_t ag_train_begin_at_zero(const ag_train_t *train, uint32_t dn, ag_graph_t *graph);

/** From the forward graph of a layer's part to those of its gradients, which end where the sum of
 * dn over the ranks begins; what is behind is the second's. opts' cut is set. */
ag_status_t ag_train_differentiate(const ag_train_t *train, uint32_t layer, uint32_t dx,
                                   uint32_t dn, ag_backward_opts_t *opts,
                                   ag_train_graphs_t *graphs);
void ag_train_graphs_fini(const ag_train_t *train, ag_train_graphs_t *graphs);

/* The feed-forward part of a layer whose experts several ranks hold (expand_experts.c). */
typedef struct ag_train_spread {
    ag_train_t *train;
    ag_train_rank_t *rank;
    const ag_train_experts_t *experts; /* of the slot */
    uint32_t layer;
    uint32_t before, x, dx; /* the residual stream without p and with it, and its gradient */
    uint32_t partial;       /* what the part makes, and the gradient of that */
    uint32_t dpartial;
    bool pending;    /* p has yet to be added to what it reads */
    uint32_t kept;   /* what gradients of its norm and its router read */
    uint32_t normed; /* what its norm made, where a segment of its own does; else AG_NO_BUFFER */
} ag_train_spread_t;

bool ag_train_is_spread(const ag_train_t *train, uint32_t rank, uint32_t layer);

/** @param keeps     what gradients read is left for them. @param combines  p is made, too. */
ag_status_t ag_train_spread_forward(const ag_train_spread_t *spread, bool keeps, bool combines);
ag_status_t ag_train_spread_backward(const ag_train_spread_t *spread);

/** The buffers of a layer, or of all one after the other. @param name  ends their names. */
ag_status_t ag_train_add_experts(ag_train_t *train, uint32_t rank, const char *name,
                                 ag_train_experts_t *experts);

/** Those of a rank that no layer keeps. */
ag_status_t ag_train_add_exchanged(ag_train_t *train, uint32_t rank);

/** Zero the gradients and the loss; their totals, and the update by them. Where a program evaluates
 * there is but the loss. */
ag_status_t ag_train_add_zero(const ag_train_t *train, uint32_t rank);
ag_status_t ag_train_add_update(const ag_train_t *train, uint32_t rank);

void ag_train_free_slot(ag_train_slot_t *slot);

/** Are gradients of weights taken later than those of inputs? */
bool ag_train_splits(const ag_train_t *train);

/** Where a micro-batch hands on what they read, until its weights' item. */
ag_status_t ag_train_take_handed(ag_train_t *train, uint32_t rank, ag_train_chunk_t *chunk,
                                 ag_train_slot_t *slot);
void ag_train_give_handed(ag_train_chunk_t *chunk, const ag_train_slot_t *slot);

/** A buffer of rows of the residual stream. @param prefix  of its name, before a number. */
ag_status_t ag_train_add_row_buffer(ag_train_t *train, uint32_t rank, const char *prefix,
                                    uint32_t number, uint32_t *buffer_p);

/** The same of those rows that the rank keeps: its share, or all. */
ag_status_t ag_train_add_kept_rows(ag_train_t *train, uint32_t rank, const char *prefix,
                                   uint32_t number, uint32_t *buffer_p);

/* One item of a schedule on one rank. */
typedef struct ag_train_item {
    ag_train_t *train;
    ag_train_rank_t *rank;
    ag_train_chunk_t *chunk;
    ag_train_slot_t *slot;
    uint32_t dx; /* the buffer of the residual stream's gradient */
} ag_train_item_t;

/** Parts of an item's chunk: attention and the feed-forward part of each layer in turn; and the
 * buffer of the residual stream that one reads. */
uint32_t ag_train_n_parts(const ag_train_item_t *item);
uint32_t ag_train_x_of(const ag_train_item_t *item, uint32_t number);

/** What a part is, attention or the feed-forward part of a layer. */
ag_part_t ag_train_part_of(const ag_train_item_t *item, uint32_t number);

/** Is it the feed-forward part of a layer whose experts several ranks hold? */
bool ag_train_find_spread(const ag_train_item_t *item, uint32_t number, ag_train_spread_t *spread);

/** Are layers computed again before their gradients? */
bool ag_train_computes_again(const ag_train_item_t *item);

/** Add a graph, which is taken and left NULL. @param sum  as ag_train_add(). */
ag_status_t ag_train_add_graph(const ag_train_item_t *item, ag_part_kind_t kind, uint32_t layer,
                               ag_graph_t **graph, uint32_t sum);

/* The same three where ranks share the rows out (train_rows.c): a part's norm is a segment of its
 * own, of this rank's rows. */

/** @param again  it was computed before. */
ag_status_t ag_train_forward_rows(const ag_train_item_t *item, uint32_t number, bool again);

ag_status_t ag_train_backward_rows(const ag_train_item_t *item, uint32_t number);
ag_status_t ag_train_weights_rows(const ag_train_item_t *item, uint32_t number,
                                  ag_train_graphs_t *graphs);

/** Take the gradients of weights out of a part's first graph, where they come later. */
ag_status_t ag_train_split(const ag_train_item_t *item, uint32_t number, ag_train_graphs_t *graphs);

/** Those of a part, in their item. */
ag_status_t ag_train_weights_part(const ag_train_item_t *item, uint32_t number);

/** A new item begins: norms of another micro-batch are of no use. */
void ag_train_forget_norms(ag_train_rank_t *rank);

/** Of a graph with a part of the model that begins with a norm, what is behind it.
 * @param graph  in, out: the part; what is behind. @param rows  appended to; NULL: not wanted. */
ag_status_t ag_train_cut(const ag_train_t *train, uint32_t normed, ag_graph_t **graph,
                         ag_graph_t *rows);

ag_status_t ag_train_forward_part(const ag_train_item_t *item, uint32_t number);

/** The gradients of a layer. @param number  of its first part. */
ag_status_t ag_train_backward_layer(const ag_train_item_t *item, uint32_t number);

/** A part that is no layer's, forward. @param sum  as ag_train_add(). */
ag_status_t ag_train_simple_part(const ag_train_item_t *item, ag_part_kind_t kind, uint32_t x,
                                 uint32_t x_out, uint32_t sum);

/** The head and the loss; and their gradients, but where a program evaluates. */
ag_status_t ag_train_head_parts(const ag_train_item_t *item);

/** The gradient of the embedding table. */
ag_status_t ag_train_embed_backward(const ag_train_item_t *item);
