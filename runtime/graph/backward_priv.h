#pragma once

#include "runtime/graph/backward.h"
#include "runtime/graph/graph_priv.h"

/* What the rules work on. Values are the forward graph's; node inputs and outputs are of the graph
 * that is being written. The first failure ends it. */
struct ag_backward {
    ag_graph_t *forward;
    const ag_backward_opts_t *opts;
    ag_graph_t *graph; /* that is being written */
    size_t n_values;   /* of forward, before copies were added to it */
    int32_t *copies;   /* (values) in graph; AG_NO_VALUE: not there yet */
    int32_t *rounded;  /* (values) in forward: what is kept of passing ones; AG_NO_VALUE: nothing */
    int32_t *grads;    /* (values) their gradients' */
    bool *has_grad;    /* (values) something stands there */
    bool *is_inner;    /* (values) the segment makes it for itself */
    int32_t cut_at;    /* AG_NO_VALUE: nowhere */
    ag_status_t status;
};

/** Of a value: what it is, to be read; kept from the forward run, or made again. */
int32_t ag_backward_read(ag_backward_t *backward, int32_t value);

/** Its gradient, complete: to be read. */
int32_t ag_backward_grad(ag_backward_t *backward, int32_t value);

/** The same of a value of which only some columns have one: routes, whose experts are numbers. */
int32_t ag_backward_grad_of_width(ag_backward_t *backward, int32_t value, uint32_t width);

/** Does anybody ask for its gradient? */
bool ag_backward_wants(const ag_backward_t *backward, int32_t value);

/** Its gradient, to be written, or added to where *adds_p. */
int32_t ag_backward_target(ag_backward_t *backward, int32_t value, bool *adds_p);

/** The same for an operator that cannot add: a value of its own where something stands there, which
 * ag_backward_settle() then adds. */
int32_t ag_backward_fresh(ag_backward_t *backward, int32_t value);
void ag_backward_settle(ag_backward_t *backward, int32_t value, int32_t fresh);

/** Where a weight's gradient is added up; AG_NO_VALUE: nobody wants it, or there is no weight. */
int32_t ag_backward_param(ag_backward_t *backward, int32_t param);

/** The same of n weights alike, in one value. @param stride_p  out: floats from one to the next. */
int32_t ag_backward_params(ag_backward_t *backward, int32_t first, uint32_t n, uint64_t *stride_p);

/** A value of the graph that is being written. */
int32_t ag_backward_value(ag_backward_t *backward, ag_counter_t counter, uint32_t width);

void ag_backward_add(ag_backward_t *backward, const ag_node_t *node);

/* A node like another, without inputs and outputs. */
ag_node_t ag_backward_node(const ag_node_t *like, ag_node_kind_t kind);
