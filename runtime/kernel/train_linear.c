/* Linear layers of training: three products of plain weights (product.c), for one layer or for
 * groups of rows that have a layer each. */
#include <string.h>

#include "runtime/kernel/experts_priv.h"
#include "runtime/kernel/product_priv.h"
#include "runtime/kernel/spans_priv.h"
#include "runtime/kernel/train.h"

size_t ag_train_linear_scratch_bytes(void)
{
    return ag_product_scratch_bytes();
}

static ag_product_t forward(const ag_linear_t *linear, ag_elements_t x, uint64_t n_rows, bool exact,
                            ag_elements_t y)
{
    return (ag_product_t){.m = n_rows,
                          .n = linear->n,
                          .k = linear->k,
                          .a = x,
                          .b = ag_floats(linear->weight),
                          .b_by_columns = true,
                          .c = y,
                          .bias = linear->bias,
                          .exact = exact};
}

static ag_product_t input_grad(const ag_linear_t *linear, ag_elements_t dy, uint64_t n_rows,
                               bool exact, bool add, ag_elements_t dx)
{
    return (ag_product_t){.m = n_rows,
                          .n = linear->k,
                          .k = linear->n,
                          .a = dy,
                          .b = ag_floats(linear->weight),
                          .c = dx,
                          .add = add,
                          .exact = exact};
}

static ag_product_t weight_grad(const ag_linear_t *linear, ag_elements_t dy, ag_elements_t x,
                                uint64_t n_rows, bool exact, float *dweight)
{
    return (ag_product_t){.m = linear->n,
                          .n = linear->k,
                          .k = n_rows,
                          .a = dy,
                          .a_by_columns = true,
                          .b = x,
                          .c = ag_floats(dweight),
                          .add = true,
                          .exact = exact};
}

void ag_kernel_train_linear(const ag_kernel_context_t *context, const ag_linear_t *linear,
                            ag_elements_t x, uint64_t n_rows, bool exact, ag_elements_t y)
{
    ag_product_t product = forward(linear, x, n_rows, exact, y);

    ag_product_run(context, &product);
}

void ag_kernel_linear_input_grad(const ag_kernel_context_t *context, const ag_linear_t *linear,
                                 ag_elements_t dy, uint64_t n_rows, bool exact, bool add,
                                 ag_elements_t dx)
{
    ag_product_t product = input_grad(linear, dy, n_rows, exact, add, dx);

    ag_product_run(context, &product);
}

/* Some columns at a time, a line of memory of each row. */
static void add_rows(const ag_kernel_context_t *context, ag_elements_t x, uint64_t n_rows,
                     uint64_t width, float *y)
{
    float room[AG_SPAN];
    uint64_t begin, end;

    ag_worker_share(context->worker, width, AG_LANES, &begin, &end);
    for (; begin < end; begin += AG_LANES) {
        uint64_t n = end - begin < AG_LANES ? end - begin : AG_LANES;
        double sums[AG_LANES] = {0};

        for (uint64_t i = 0; i < n_rows; i++) {
            const float *row = ag_span_floats(context->isa, x, i * width + begin, n, room);

            for (uint64_t j = 0; j < n; j++) {
                sums[j] += (double)row[j];
            }
        }
        for (uint64_t j = 0; j < n; j++) {
            y[begin + j] += (float)sums[j];
        }
    }
}

void ag_kernel_add_rows(const ag_kernel_context_t *context, const float *x, uint64_t n_rows,
                        uint64_t width, float *y)
{
    add_rows(context, ag_floats(x), n_rows, width, y);
}

void ag_kernel_linear_weight_grad(const ag_kernel_context_t *context, const ag_linear_t *linear,
                                  ag_elements_t dy, ag_elements_t x, uint64_t n_rows, bool exact,
                                  float *dweight, float *dbias)
{
    ag_product_t product = weight_grad(linear, dy, x, n_rows, exact, dweight);

    ag_product_run(context, &product);
    if (dbias != NULL) {
        add_rows(context, dy, n_rows, linear->n, dbias);
    }
}

static void *weight_of(const ag_group_weights_t *weights, uint32_t group)
{
    return ag_group_pointer(weights->first, weights->stride_bytes, group);
}

static void *bias_of(const ag_group_weights_t *weights, uint32_t group)
{
    return ag_group_pointer(weights->first_bias, weights->stride_bytes, group);
}

void ag_kernel_train_group_linear(const ag_kernel_context_t *context, const ag_groups_t *groups,
                                  const ag_linear_t *linear, const ag_group_weights_t *weights,
                                  const float *x, bool exact, float *y)
{
    ag_linear_t one = *linear;
    unsigned turn = 0;

    for (uint32_t g = 0; g < groups->n_groups; g++) {
        uint64_t n_rows = ag_groups_rows(groups, g);
        ag_product_t product;

        one.weight = weight_of(weights, g);
        one.bias = bias_of(weights, g);
        product = forward(&one, ag_floats(x), n_rows, exact, ag_floats(y));
        product.m_varies = true;
        product.turn = turn;
        ag_product_run(context, &product);
        turn += (unsigned)ag_product_row_blocks(n_rows);
        x += n_rows * one.k;
        y += n_rows * one.n;
    }
}

void ag_kernel_group_input_grad(const ag_kernel_context_t *context, const ag_groups_t *groups,
                                const ag_linear_t *linear, const ag_group_weights_t *weights,
                                const float *dy, bool exact, bool add, float *dx)
{
    ag_linear_t one = *linear;
    unsigned turn = 0;

    for (uint32_t g = 0; g < groups->n_groups; g++) {
        uint64_t n_rows = ag_groups_rows(groups, g);
        ag_product_t product;

        one.weight = weight_of(weights, g);
        product = input_grad(&one, ag_floats(dy), n_rows, exact, add, ag_floats(dx));
        product.m_varies = true;
        product.turn = turn;
        ag_product_run(context, &product);
        turn += (unsigned)ag_product_row_blocks(n_rows);
        dy += n_rows * one.n;
        dx += n_rows * one.k;
    }
}

void ag_kernel_group_weight_grad(const ag_kernel_context_t *context, const ag_groups_t *groups,
                                 const ag_linear_t *linear, const ag_group_weights_t *dweights,
                                 const float *dy, const float *x, bool exact)
{
    for (uint32_t g = 0; g < groups->n_groups; g++) {
        uint64_t n_rows = ag_groups_rows(groups, g);
        ag_product_t product =
            weight_grad(linear, ag_floats(dy), ag_floats(x), n_rows, exact, weight_of(dweights, g));

        product.k_varies = true;
        ag_product_run(context, &product);
        if (dweights->first_bias != NULL) {
            ag_kernel_add_rows(context, dy, n_rows, linear->n, bias_of(dweights, g));
        }
        dy += n_rows * linear->n;
        x += n_rows * linear->k;
    }
}
