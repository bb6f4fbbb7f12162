/*
 * Dense products in blocks at fixed places, whatever the number of threads:
 *
 *     for each block of up to 1536 of k, of float32 768
 *         for each few of my blocks of up to 256 rows: bring a's (rows, k) into a dense form
 *             for each of my blocks of columns: bring b's (k, columns) into it too
 *                 for each of those blocks of rows: c's (rows, columns) = a * b by oneDNN
 *
 * "Into a form" is to round to bfloat16, and for exact products to copy what does not lie densely.
 * Up to 1536 columns are one block: b is brought into form once for a block of k, and oneDNN writes
 * to c, or adds to it, in place. More of them are cut: the product goes to a tile and from there to
 * c, and b is read once for as many rows of a as fit 1.5 MiB. Threads take blocks of rows or of
 * columns, by which they are shared out more evenly. 2 * m * n * k operations at the peak of the
 * type; c is moved once for every block of k.
 */
#include "runtime/kernel/product_priv.h"

#include <string.h>

#include "runtime/kernel/spans_priv.h"

enum {
    MOST_ROWS = 256, /* of a block */
    MOST_K_BYTES = 3072,
    WHOLE_COLUMNS = 1536,      /* so many are one block .. */
    MOST_COLUMNS = 256,        /* .. of more, so many are */
    MOST_B_BYTES = 2560 << 10, /* of a block of b */
    A_BYTES = 1536 << 10, /* of blocks of rows for which a cut b is brought into form once .. */
    ROW_BLOCKS = 8,       /* .. and how many there are at most */
    UNIT = 16,            /* blocks are multiples of it */
    VARYING_ROWS = 128,   /* a block where rows vary, or what is left in units of .. */
    VARYING_ROWS_UNIT = 32,
    VARYING_K = 512, /* .. and where k does */
    VARYING_K_UNIT = 64,
    ROWS_AHEAD = 12,
};

/* How one side is cut: blocks of `size`, the last may be less; they are filled up to `unit`. */
typedef struct cut {
    uint64_t n, size, n_blocks, unit;
} cut_t;

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Blocks of nearly one size. @param n_least  so many blocks, or a multiple, of not less than a
 * third of `most` there should be: there is work for so many threads then */
static cut_t cut_evenly(uint64_t n, uint64_t most, uint64_t n_least)
{
    cut_t cut = {.n = n, .n_blocks = (n + most - 1) / most, .unit = UNIT};

    while (n_least > 1 && n < n_least * most / 3) {
        n_least /= 2;
    }
    cut.n_blocks = round_up(cut.n_blocks, n_least);
    cut.size = round_up((n + cut.n_blocks - 1) / cut.n_blocks, UNIT);
    cut.n_blocks = (n + cut.size - 1) / cut.size;
    return cut;
}

/* Blocks of one size, however many: few shapes for oneDNN to build primitives of. */
static cut_t cut_alike(uint64_t n, uint64_t size, uint64_t unit)
{
    return (cut_t){.n = n, .size = size, .n_blocks = (n + size - 1) / size, .unit = unit};
}

uint64_t ag_product_row_blocks(uint64_t m)
{
    return cut_alike(m, VARYING_ROWS, VARYING_ROWS_UNIT).n_blocks;
}

static uint64_t block_size(const cut_t *cut, uint64_t block)
{
    uint64_t begin = block * cut->size;

    return cut->n - begin < cut->size ? cut->n - begin : cut->size;
}

/* A product as this thread works on it. */
typedef struct work {
    const ag_kernel_context_t *context;
    const ag_product_t *product;
    cut_t rows, columns, k;
    ag_gemm_kind_t kind;
    unsigned char *a, *b; /* scratch of the forms */
    float *tile;
    bool in_place; /* all columns are one block, and oneDNN can write what c holds */
} work_t;

/* A block in the form that is multiplied by. */
typedef struct block {
    const void *data;
    uint64_t rows, columns; /* as they lie in memory */
} block_t;

static void put_row(const work_t *work, ag_elements_t src, uint64_t n, uint64_t n_padded, void *dst)
{
    ag_product_convert(work->context, work->kind, src, n, dst);
    memset((unsigned char *)dst + n * ag_product_element_bytes(work->kind), 0,
           (n_padded - n) * ag_product_element_bytes(work->kind));
}

/* Parts of rows lie too far apart for the machine to call them near by itself. */
static void call(ag_elements_t src, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += src.rounded ? 32 : 16) {
        __builtin_prefetch(ag_elements_at(src, i).data);
    }
}

/* Rows and columns of src, whose rows are `stride` wide, and zeros behind to fill `block`. */
static void put_block(const work_t *work, ag_elements_t src, uint64_t stride, uint64_t n_rows,
                      uint64_t n_columns, unsigned char *dst, block_t *block)
{
    size_t row_bytes = block->columns * ag_product_element_bytes(work->kind);

    if (src.rounded == (work->kind == AG_GEMM_BF16) && stride == block->columns &&
        n_columns == stride && n_rows == block->rows) {
        block->data = src.data;
        return;
    }
    for (uint64_t i = 0; i < n_rows; i++) {
        if (i + ROWS_AHEAD < n_rows) {
            call(ag_elements_at(src, (i + ROWS_AHEAD) * stride), n_columns);
        }
        put_row(work, ag_elements_at(src, i * stride), n_columns, block->columns,
                dst + i * row_bytes);
    }
    memset(dst + n_rows * row_bytes, 0, (block->rows - n_rows) * row_bytes);
    block->data = dst;
}

static void put_a(const work_t *work, uint64_t k, uint64_t row, unsigned char *dst, block_t *block)
{
    const ag_product_t *product = work->product;
    uint64_t n_k = block_size(&work->k, k), n_rows = block_size(&work->rows, row);
    uint64_t at_k = k * work->k.size, at_row = row * work->rows.size;
    uint64_t k_padded = round_up(n_k, work->k.unit);
    uint64_t rows_padded = round_up(n_rows, work->rows.unit);

    if (product->a_by_columns) {
        *block = (block_t){.rows = k_padded, .columns = rows_padded};
        put_block(work, ag_elements_at(product->a, at_k * product->m + at_row), product->m, n_k,
                  n_rows, dst, block);
    } else {
        *block = (block_t){.rows = rows_padded, .columns = k_padded};
        put_block(work, ag_elements_at(product->a, at_row * product->k + at_k), product->k, n_rows,
                  n_k, dst, block);
    }
}

static void put_b(const work_t *work, uint64_t k, uint64_t column, block_t *block)
{
    const ag_product_t *product = work->product;
    uint64_t n_k = block_size(&work->k, k), n_columns = block_size(&work->columns, column);
    uint64_t at_k = k * work->k.size, at_column = column * work->columns.size;
    uint64_t k_padded = round_up(n_k, work->k.unit);

    if (product->b_by_columns) {
        *block = (block_t){.rows = n_columns, .columns = k_padded};
        put_block(work, ag_elements_at(product->b, at_column * product->k + at_k), product->k,
                  n_columns, n_k, work->b, block);
    } else {
        *block = (block_t){.rows = k_padded, .columns = n_columns};
        put_block(work, ag_elements_at(product->b, at_k * product->n + at_column), product->n, n_k,
                  n_columns, work->b, block);
    }
}

/* A row of a tile. */
static void store_rounded(const work_t *work, float *src, const float *bias, bool add, uint64_t n,
                          ag_elements_t c)
{
    const ag_isa_t *isa = work->context->isa;
    float room[AG_SPAN];

    for (uint64_t at = 0, n_span; at < n; at += n_span) {
        n_span = n - at < AG_SPAN ? n - at : AG_SPAN;
        if (add) {
            const float *before = ag_span_floats(isa, c, at, n_span, room);

            for (uint64_t j = 0; j < n_span; j++) {
                src[at + j] += before[j];
            }
        }
        for (uint64_t j = 0; bias != NULL && j < n_span; j++) {
            src[at + j] += bias[at + j];
        }
        ag_span_put(isa, c, at, n_span, src + at);
    }
}

static void store_tile(const work_t *work, uint64_t k, uint64_t row, uint64_t column)
{
    const ag_product_t *product = work->product;
    uint64_t n_rows = block_size(&work->rows, row), n_columns = block_size(&work->columns, column);
    uint64_t at_row = row * work->rows.size, at_column = column * work->columns.size;
    const float *bias = product->bias != NULL && k == 0 ? product->bias + at_column : NULL;

    for (uint64_t i = 0; i < n_rows; i++) {
        ag_elements_t c = ag_elements_at(product->c, (at_row + i) * product->n + at_column);
        float *src = work->tile + i * n_columns, *dst = c.data;

        if (c.rounded) {
            store_rounded(work, src, bias, product->add || k > 0, n_columns, c);
            continue;
        }
        if (!product->add && k == 0 && bias == NULL) {
            memcpy(dst, src, n_columns * sizeof(float));
            continue;
        }
        for (uint64_t j = 0; j < n_columns; j++) {
            float before = product->add || k > 0 ? dst[j] : 0.0f;

            dst[j] = before + src[j] + (bias != NULL ? bias[j] : 0.0f);
        }
    }
}

static void add_bias(const ag_product_t *product, uint64_t n_rows, float *c)
{
    for (uint64_t i = 0; i < n_rows; i++) {
        for (uint64_t j = 0; j < product->n; j++) {
            c[i * product->n + j] += product->bias[j];
        }
    }
}

static void run_block(const work_t *work, const block_t *a, const block_t *b, uint64_t k,
                      uint64_t row, uint64_t column)
{
    const ag_product_t *product = work->product;
    uint64_t n_rows = block_size(&work->rows, row);
    ag_elements_t c = ag_elements_at(product->c, row * work->rows.size * product->n);
    ag_gemm_form_t form = {.kind = work->kind,
                           .a_by_columns = product->a_by_columns,
                           .b_by_columns = product->b_by_columns,
                           .m = product->a_by_columns ? a->columns : a->rows,
                           .n = product->b_by_columns ? b->rows : b->columns,
                           .k = product->a_by_columns ? a->rows : a->columns};

    if (work->in_place && form.m == n_rows) {
        form.add = product->add || k > 0;
        form.c_rounded = c.rounded;
        ag_product_multiply(work->context, &form, a->data, b->data, c.data);
        if (k == 0 && product->bias != NULL) {
            add_bias(product, n_rows, c.data);
        }
    } else { /* c has no place for the rows that fill up the block */
        ag_product_multiply(work->context, &form, a->data, b->data, work->tile);
        store_tile(work, k, row, column);
    }
    ag_kernel_yield(work->context);
}

/* Blocks of rows and columns that a thread takes. */
typedef struct region {
    uint64_t row_begin, row_end, column_begin, column_end;
} region_t;

static void run_region(work_t *work, const region_t *region, uint64_t k)
{
    size_t a_bytes = round_up(work->rows.size, work->rows.unit) *
                     round_up(work->k.size, work->k.unit) * ag_product_element_bytes(work->kind);
    uint64_t at_hand = UINT64_MAX; /* which block of columns b is of */
    uint64_t most = A_BYTES / a_bytes < ROW_BLOCKS ? A_BYTES / a_bytes : ROW_BLOCKS;
    block_t a[ROW_BLOCKS], b;

    for (uint64_t row = region->row_begin; row < region->row_end; row += most) {
        uint64_t n = region->row_end - row < most ? region->row_end - row : most;

        for (uint64_t i = 0; i < n; i++) {
            put_a(work, k, row + i, work->a + i * a_bytes, &a[i]);
        }
        for (uint64_t column = region->column_begin; column < region->column_end; column++) {
            if (column != at_hand) {
                put_b(work, k, column, &b);
                at_hand = column;
            }
            for (uint64_t i = 0; i < n; i++) {
                run_block(work, &a[i], &b, k, row + i, column);
            }
        }
    }
}

/* How much longer the thread with the most blocks works than it would with its even share. */
static double unevenness(const cut_t *cut, unsigned n_threads)
{
    uint64_t most = (cut->n_blocks + n_threads - 1) / n_threads * cut->size;

    return (double)(most < cut->n ? most : cut->n) * n_threads / (double)cut->n;
}

static region_t share_out(const work_t *work)
{
    ag_worker_t own = *work->context->worker, *worker = &own;
    region_t mine = {.row_end = work->rows.n_blocks, .column_end = work->columns.n_blocks};
    double by_rows = unevenness(&work->rows, worker->n_threads);
    double by_columns = unevenness(&work->columns, worker->n_threads);

    own.thread = (own.thread + work->product->turn) % own.n_threads;
    /* what is not shared out every thread brings into form: that should be the smaller side */
    if (by_rows < by_columns || (by_rows <= by_columns && work->rows.n >= work->columns.n)) {
        ag_worker_share(worker, work->rows.n_blocks, 1, &mine.row_begin, &mine.row_end);
    } else {
        ag_worker_share(worker, work->columns.n_blocks, 1, &mine.column_begin, &mine.column_end);
    }
    return mine;
}

static size_t split_scratch(unsigned char *at, work_t *work)
{
    if (at != NULL) {
        work->a = at;
        work->b = at + A_BYTES;
        work->tile = (float *)(void *)(at + A_BYTES + MOST_B_BYTES);
    }
    return A_BYTES + MOST_B_BYTES + MOST_ROWS * WHOLE_COLUMNS * sizeof(float);
}

size_t ag_product_scratch_bytes(void)
{
    return split_scratch(NULL, NULL);
}

/* Without k there is nothing to sum: bias or zeros. */
static void run_empty(const ag_kernel_context_t *context, const ag_product_t *product)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, product->m, 1, &begin, &end);
    for (uint64_t i = begin; i < end && !product->add; i++) {
        for (uint64_t j = 0, n; j < product->n; j += n) {
            float zeros[AG_SPAN] = {0};
            const float *from = product->bias != NULL ? product->bias + j : zeros;

            n = product->n - j < AG_SPAN ? product->n - j : AG_SPAN;
            if (product->c.rounded) {
                ag_span_put(context->isa, product->c, i * product->n + j, n, from);
            } else {
                memcpy((float *)product->c.data + i * product->n + j, from, n * sizeof(float));
            }
        }
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A sum that is to be rounded once is taken over all of k: of long ones fewer rows and columns are
 * a block. @return false: of so many not even the least block fits */
static bool cut_for_rounding(const ag_product_t *product, work_t *work)
{
    uint64_t k_bytes = round_up(product->k, UNIT) * ag_product_element_bytes(work->kind);
    uint64_t most_rows = A_BYTES / k_bytes / UNIT * UNIT;
    uint64_t most_columns = MOST_B_BYTES / k_bytes / UNIT * UNIT;

    if (most_rows == 0) {
        return false;
    }
    work->in_place &= product->n <= most_columns;
    work->k = cut_evenly(product->k, round_up(product->k, UNIT), 1);
    work->rows = cut_evenly(product->m, least(MOST_ROWS, most_rows), 4);
    work->columns = cut_evenly(
        product->n, work->in_place ? WHOLE_COLUMNS : least(MOST_COLUMNS, most_columns), 1);
    return true;
}

static void cut(const ag_product_t *product, work_t *work)
{
    size_t bytes = ag_product_element_bytes(work->kind);
    uint64_t most_k = MOST_K_BYTES / bytes;

    work->in_place = product->n <= WHOLE_COLUMNS &&
                     (!product->c.rounded || (work->kind == AG_GEMM_BF16 && product->bias == NULL));
    if (product->c.rounded && cut_for_rounding(product, work)) {
        return;
    }
    if (work->in_place && MOST_B_BYTES / bytes / product->n < most_k) {
        most_k = MOST_B_BYTES / bytes / product->n / UNIT * UNIT;
    }
    work->rows = product->m_varies ? cut_alike(product->m, VARYING_ROWS, VARYING_ROWS_UNIT)
                                   : cut_evenly(product->m, MOST_ROWS, 4);
    work->columns = cut_evenly(product->n, work->in_place ? WHOLE_COLUMNS : MOST_COLUMNS, 1);
    if (!product->k_varies) {
        work->k = cut_evenly(product->k, most_k, 1);
        return;
    }
    most_k = most_k > VARYING_K ? VARYING_K : most_k / VARYING_K_UNIT * VARYING_K_UNIT;
    work->k = cut_alike(product->k, most_k, VARYING_K_UNIT);
}

void ag_product_run(const ag_kernel_context_t *context, const ag_product_t *product)
{
    work_t work = {
        .context = context, .product = product, .kind = ag_product_kind(context, product->exact)};
    region_t mine;

    if (product->m == 0 || product->n == 0) {
        return;
    }
    if (product->k == 0) {
        run_empty(context, product);
        return;
    }
    cut(product, &work);
    split_scratch(context->scratch, &work);
    mine = share_out(&work);
    for (uint64_t k = 0; k < work.k.n_blocks; k++) {
        run_region(&work, &mine, k);
    }
}

/* Element i of a block. */
static double element(ag_gemm_kind_t kind, const void *block, uint64_t i)
{
    return kind == AG_GEMM_BF16 ? (double)ag_bf16_to_f32(((const uint16_t *)block)[i])
                                : (double)((const float *)block)[i];
}

/* In plain C, where there is no oneDNN for it. */
static void multiply_plainly(const ag_gemm_form_t *form, const void *a, const void *b, void *c)
{
    ag_gemm_kind_t kind = form->c_rounded ? AG_GEMM_BF16 : AG_GEMM_F32;
    uint64_t a_row = form->a_by_columns ? 1 : form->k, a_k = form->a_by_columns ? form->m : 1;
    uint64_t b_k = form->b_by_columns ? 1 : form->n, b_column = form->b_by_columns ? form->k : 1;

    for (uint64_t i = 0; i < form->m; i++) {
        for (uint64_t j = 0; j < form->n; j++) {
            uint64_t at = i * form->n + j;
            double sum = form->add ? element(kind, c, at) : 0;

            for (uint64_t l = 0; l < form->k; l++) {
                sum += element(form->kind, a, i * a_row + l * a_k) *
                       element(form->kind, b, l * b_k + j * b_column);
            }
            if (form->c_rounded) {
                ((uint16_t *)c)[at] = ag_f32_to_bf16((float)sum);
            } else {
                ((float *)c)[at] = (float)sum;
            }
        }
    }
}

void ag_product_multiply(const ag_kernel_context_t *context, const ag_gemm_form_t *form,
                         const void *a, const void *b, void *c)
{
    if (context->gemm == NULL ||
        ag_gemm_run(context->gemm, context->worker->thread, form, a, b, c) != AG_OK) {
        multiply_plainly(form, a, b, c);
    }
}

ag_gemm_kind_t ag_product_kind(const ag_kernel_context_t *context, bool exact)
{
    return !exact && context->gemm != NULL && ag_gemm_is_fast(context->gemm, AG_GEMM_BF16)
               ? AG_GEMM_BF16
               : AG_GEMM_F32;
}

void ag_product_convert(const ag_kernel_context_t *context, ag_gemm_kind_t kind, ag_elements_t src,
                        uint64_t n, void *dst)
{
    bool rounds = kind == AG_GEMM_BF16;

    if (rounds == src.rounded) {
        memcpy(dst, src.data, n * ag_product_element_bytes(kind));
        return;
    }
    for (uint64_t at = 0, n_span; at < n; at += n_span) {
        n_span = n - at < AG_SPAN ? n - at : AG_SPAN;
        if (rounds) {
            ag_span_put(context->isa, (ag_elements_t){dst, true}, at, n_span,
                        (const float *)src.data + at);
        } else {
            ag_span_floats(context->isa, src, at, n_span, (float *)dst + at);
        }
    }
}
