#include "parallel/program/text.h"

#include <stdarg.h>

enum { STREAM_CHARS = 8, OP_CHARS = 30, EXTENT_CHARS = 16, AFTER_CHARS = 17 };

/* Write, and count what was written. */
__attribute__((format(printf, 3, 4))) static void put(FILE *file, int *n_chars, const char *format,
                                                      ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vfprintf(file, format, args);
    va_end(args);
    *n_chars += n > 0 ? n : 0;
}

/* Fill a column up, and leave a blank before the next. */
static void end_column(FILE *file, int n_chars, int width)
{
    fprintf(file, "%*s", n_chars < width ? width - n_chars + 1 : 1, "");
}

/* Numbers that follow each other are a range where that is shorter. */
static void put_group(const ag_program_group_t *group, FILE *file, int *n_chars)
{
    put(file, n_chars, "{");
    for (uint32_t i = 0, n; i < group->n_ranks; i += n) {
        n = 1;
        while (i + n < group->n_ranks && group->ranks[i + n] == group->ranks[i] + n) {
            n++;
        }
        n = n > 2 ? n : 1;
        put(file, n_chars, "%s%u", i > 0 ? "," : "", group->ranks[i]);
        if (n > 1) {
            put(file, n_chars, "..%u", group->ranks[i] + n - 1);
        }
    }
    put(file, n_chars, "}");
}

static void put_shares(const ag_program_shares_t *shares, FILE *file, int *n_chars)
{
    for (uint32_t i = 0; shares != NULL && i < shares->n_ranks; i++) {
        put(file, n_chars, "%s%llu", i == 0 ? " shares " : ",",
            (unsigned long long)shares->floats[i]);
    }
}

/* How many parts from this one on are of its layer. */
static size_t run_of_layer(const ag_part_t *parts, size_t n_parts)
{
    size_t n = 1;

    while (n < n_parts && ag_part_infos[parts[n].kind].has_layer &&
           parts[n].layer == parts[0].layer) {
        n++;
    }
    return n;
}

/* How many layers, one after the other, have the parts of the first. */
static uint32_t count_layers(const ag_part_t *parts, size_t n_parts, size_t n_run)
{
    size_t n = n_run;

    while (n < n_parts && parts[n].kind == parts[n - n_run].kind &&
           parts[n].layer == parts[n - n_run].layer + 1) {
        n++;
    }
    return (uint32_t)(n / n_run);
}

static void put_parts(const ag_segment_t *segment, FILE *file, int *n_chars)
{
    const ag_part_t *parts = AG_ITEMS(&segment->parts, ag_part_t);
    size_t n_parts = segment->parts.n_items;

    for (size_t at = 0; at < n_parts;) {
        const ag_part_t *part = &parts[at];
        uint32_t n_layers = 1;
        size_t n_run = 1;

        put(file, n_chars, " %s", ag_part_infos[part->kind].name);
        if (ag_part_infos[part->kind].has_layer) {
            n_run = run_of_layer(part, n_parts - at);
            n_layers = count_layers(part, n_parts - at, n_run);
            for (size_t i = 1; i < n_run; i++) {
                put(file, n_chars, "+%s", ag_part_infos[part[i].kind].name);
            }
            put(file, n_chars, " L%u", part->layer);
        }
        if (n_layers > 1) {
            put(file, n_chars, "..%u", part->layer + n_layers - 1);
        }
        at += n_run * n_layers;
    }
}

static void put_what(const ag_program_t *program, const ag_rank_program_t *rank, const ag_op_t *op,
                     FILE *file)
{
    uint32_t usual_channel = AG_LINK_CHANNEL;
    int n_chars = 0;

    put(file, &n_chars, "%s", ag_op_infos[op->kind].name);
    if (op->kind == AG_OP_SEGMENT) {
        put_parts(&AG_ITEMS(&rank->segments, ag_segment_t)[op->subject], file, &n_chars);
    } else if (ag_op_infos[op->kind].is_message) {
        put(file, &n_chars, " %s rank %d", op->kind == AG_OP_SEND ? "to" : "from", op->peer);
    } else {
        const ag_program_group_t *group =
            &AG_ITEMS(&program->groups, ag_program_group_t)[op->subject];

        put(file, &n_chars, " ");
        put_group(group, file, &n_chars);
        put_shares(ag_op_shares(program, op), file, &n_chars);
        usual_channel = group->channel;
    }
    put(file, &n_chars, " mb%u%s", op->micro_batch,
        op->half == AG_HALF_A       ? ".a"
        : op->half == AG_HALF_B     ? ".b"
        : op->half == AG_ROWS_SHARE ? ".s"
                                    : "");
    if (op->chunk > 0) {
        put(file, &n_chars, " c%u", op->chunk);
    }
    if (op->channel != usual_channel) {
        put(file, &n_chars, " channel %u", op->channel);
    }
    end_column(file, n_chars, OP_CHARS);
}

static void put_extent_and_after(const ag_rank_program_t *rank, const ag_op_t *op, FILE *file)
{
    int n_chars = 0;

    if (op->unit_bytes > 0 || op->counter != AG_SIZE_ONE) {
        put(file, &n_chars, "%llu x %s", (unsigned long long)op->unit_bytes,
            ag_counter_names[op->counter]);
    } else {
        put(file, &n_chars, "-");
    }
    end_column(file, n_chars, EXTENT_CHARS);
    n_chars = 0;
    for (uint32_t i = 0; i < op->n_deps; i++) {
        uint32_t dep = AG_ITEMS(&rank->deps, uint32_t)[op->first_dep + i];

        put(file, &n_chars, "%s%s.%u", i == 0 ? "" : ",",
            ag_stream_names[ag_rank_ops(rank)[dep].stream], dep);
    }
    if (op->n_deps == 0) {
        put(file, &n_chars, "-");
    }
    end_column(file, n_chars, AFTER_CHARS);
}

static void put_uses(const ag_rank_program_t *rank, const ag_op_t *op, FILE *file)
{
    for (uint32_t i = 0; i < op->n_uses; i++) {
        const ag_use_t *use = &ag_op_uses(rank, op)[i];

        fprintf(file, "%s%s%s%s%s%s:%s", i == 0 ? "" : " ", use->mode & AG_USE_READ ? "r" : "",
                use->mode & AG_USE_WRITE ? "w" : "", use->mode & AG_USE_PARTIAL ? "+" : "",
                use->mode & AG_USE_SHARE ? "/" : "", use->mode & AG_USE_ADD ? "&" : "",
                AG_ITEMS(&rank->buffers, ag_buffer_t)[use->buffer].name);
    }
    if (op->n_uses == 0) {
        fprintf(file, "-");
    }
}

static void put_op(const ag_program_t *program, uint32_t rank, uint32_t op, FILE *file)
{
    const ag_rank_program_t *r = &program->ranks[rank];
    const ag_op_t *o = &ag_rank_ops(r)[op];

    fprintf(file, "%-4u %-*s ", op, STREAM_CHARS, ag_stream_names[o->stream]);
    put_what(program, r, o, file);
    put_extent_and_after(r, o, file);
    put_uses(r, o, file);
}

static void put_buffer(const ag_buffer_t *buffer, FILE *file)
{
    int n_chars = 0;

    fprintf(file, "buffer %-9s ", buffer->name);
    put(file, &n_chars, "%llu x %s", (unsigned long long)buffer->unit_bytes,
        ag_counter_names[buffer->counter]);
    end_column(file, n_chars, EXTENT_CHARS);
    fprintf(file, "%llu bytes at %llu", (unsigned long long)buffer->bytes,
            (unsigned long long)buffer->offset_bytes);
}

/* A file over the line, cut to what has room there; NULL where memory is out. */
static FILE *open_line(char *line, size_t n_bytes)
{
    line[0] = line[n_bytes - 1] = '\0';
    return fmemopen(line, n_bytes - 1, "w");
}

const char *ag_op_text(const ag_program_t *program, uint32_t rank, uint32_t op, char *line,
                       size_t n_bytes)
{
    FILE *file = open_line(line, n_bytes);

    if (file != NULL) {
        put_op(program, rank, op, file);
        fclose(file);
    }
    return line;
}

const char *ag_buffer_text(const ag_buffer_t *buffer, char *line, size_t n_bytes)
{
    FILE *file = open_line(line, n_bytes);

    if (file != NULL) {
        put_buffer(buffer, file);
        fclose(file);
    }
    return line;
}

void ag_program_print_heading(const ag_program_t *program, FILE *file)
{
    fprintf(file, "argosy_program 1: %u ranks, at most", program->n_ranks);
    for (int c = AG_SIZE_ONE + 1; c < AG_N_SIZE_COUNTERS; c++) {
        if (c < AG_N_STEP_COUNTERS || program->bounds[c] > 0) {
            fprintf(file, "%s %llu %s", c > AG_SIZE_ONE + 1 ? "," : "",
                    (unsigned long long)program->bounds[c], ag_counter_names[c]);
        }
    }
    fprintf(file, "\n");
    for (size_t i = 0; i < program->groups.n_items; i++) {
        const ag_program_group_t *group = &AG_ITEMS(&program->groups, ag_program_group_t)[i];
        int n_chars = 0;

        fprintf(file, "group ");
        put_group(group, file, &n_chars);
        fprintf(file, " channel %u\n", group->channel);
    }
}

void ag_program_print_no_rank(uint32_t rank, FILE *file)
{
    fprintf(file, "\nrank %u:\n# left out\n", rank);
}

void ag_program_print_rank(const ag_program_t *program, uint32_t rank, FILE *file)
{
    const ag_rank_program_t *r = &program->ranks[rank];
    const ag_buffer_t *buffers = AG_ITEMS(&r->buffers, ag_buffer_t);

    fprintf(file, "\nrank %u: %llu bytes\n", rank, (unsigned long long)r->memory_bytes);
    for (size_t i = 0; i < r->buffers.n_items; i++) {
        put_buffer(&buffers[i], file);
        fprintf(file, "\n");
    }
    if (rank == 0 && program->output_buffer < r->buffers.n_items) {
        fprintf(file, "output %s\n", buffers[program->output_buffer].name);
    }
    fprintf(file, "#    %-*s %-*s %-*s %-*s uses\n", STREAM_CHARS, "stream", OP_CHARS, "op",
            EXTENT_CHARS, "extent", AFTER_CHARS, "after");
    for (uint32_t i = 0; i < r->ops.n_items; i++) {
        put_op(program, rank, i, file);
        fprintf(file, "\n");
    }
}
