#include "parallel/program/text.h"

#include "runtime/base/line.h"

static void put_what(const ag_program_t *program, const ag_rank_program_t *rank, const ag_op_t *op,
                     char *what, size_t n_bytes)
{
    const ag_use_t *uses = ag_op_uses(rank, op);

    ag_line_append(what, n_bytes, "%s", ag_op_infos[op->kind].name);
    if (op->kind == AG_OP_SEGMENT) {
        const ag_segment_t *segment = &AG_ITEMS(&rank->segments, ag_segment_t)[op->subject];
        const ag_part_t *parts = AG_ITEMS(&segment->parts, ag_part_t);
        size_t last = segment->parts.n_items - 1;

        ag_line_append(what, n_bytes, " %s L%u", ag_part_infos[parts[0].kind].name, parts[0].layer);
        if (last > 0) {
            ag_line_append(what, n_bytes, "..%s L%u", ag_part_infos[parts[last].kind].name,
                           parts[last].layer);
        }
    } else if (ag_op_infos[op->kind].is_message) {
        ag_line_append(what, n_bytes, " %s rank %d", op->kind == AG_OP_SEND ? "to" : "from",
                       op->peer);
    } else {
        const ag_program_group_t *group =
            &AG_ITEMS(&program->groups, ag_program_group_t)[op->subject];

        for (uint32_t i = 0; i < group->n_ranks; i++) {
            ag_line_append(what, n_bytes, "%s%u", i == 0 ? " {" : ",", group->ranks[i]);
        }
        ag_line_append(what, n_bytes, "}");
    }
    if (op->kind != AG_OP_SEGMENT && op->n_uses > 0) {
        ag_line_append(what, n_bytes, " %s",
                       AG_ITEMS(&rank->buffers, ag_buffer_t)[uses[0].buffer].name);
    }
    ag_line_append(what, n_bytes, " mb%u", op->micro_batch);
}

static void put_uses(const ag_rank_program_t *rank, const ag_op_t *op, char *text, size_t n_bytes)
{
    for (uint32_t i = 0; i < op->n_uses; i++) {
        const ag_use_t *use = &ag_op_uses(rank, op)[i];

        ag_line_append(text, n_bytes, "%s%s%s%s:%s", i == 0 ? "" : " ",
                       use->mode & AG_USE_READ ? "r" : "", use->mode & AG_USE_WRITE ? "w" : "",
                       use->mode & AG_USE_PARTIAL ? "+" : "",
                       AG_ITEMS(&rank->buffers, ag_buffer_t)[use->buffer].name);
    }
}

const char *ag_op_text(const ag_program_t *program, uint32_t rank, uint32_t op, char *line,
                       size_t n_bytes)
{
    const ag_rank_program_t *r = &program->ranks[rank];
    const ag_op_t *o = &ag_rank_ops(r)[op];
    char what[160] = "", extent[48] = "", after[96] = "", uses[160] = "";

    put_what(program, r, o, what, sizeof(what));
    if (o->unit_bytes > 0) {
        ag_line_append(extent, sizeof(extent), "%u x %s", o->unit_bytes,
                       ag_counter_names[o->counter]);
    }
    for (uint32_t i = 0; i < o->n_deps; i++) {
        uint32_t dep = AG_ITEMS(&r->deps, uint32_t)[o->first_dep + i];

        ag_line_append(after, sizeof(after), "%s%s.%u", i == 0 ? "" : " ",
                       ag_stream_names[ag_rank_ops(r)[dep].stream], dep);
    }
    put_uses(r, o, uses, sizeof(uses));
    snprintf(line, n_bytes, "%-4u %-8s %-32s %-18s %-22s %s", op, ag_stream_names[o->stream], what,
             extent, after[0] == '\0' ? "-" : after, uses);
    return line;
}

void ag_program_print(const ag_program_t *program, uint32_t rank, FILE *file)
{
    const ag_rank_program_t *r = &program->ranks[rank];
    char line[512];

    fprintf(file, "rank %u: at most", rank);
    for (int c = AG_SIZE_TOKENS; c < AG_N_SIZE_COUNTERS; c++) {
        fprintf(file, " %llu %s%s", (unsigned long long)program->bounds[c], ag_counter_names[c],
                c + 1 < AG_N_SIZE_COUNTERS ? "," : "\n");
    }
    for (size_t i = 0; i < r->buffers.n_items; i++) {
        const ag_buffer_t *buffer = &AG_ITEMS(&r->buffers, ag_buffer_t)[i];

        fprintf(file, "buffer %-8s %llu x %s at %llu\n", buffer->name,
                (unsigned long long)buffer->unit_bytes, ag_counter_names[buffer->counter],
                (unsigned long long)buffer->offset_bytes);
    }
    fprintf(file, "#    stream   op                               extent             after"
                  "                  uses\n");
    for (uint32_t i = 0; i < r->ops.n_items; i++) {
        fprintf(file, "%s\n", ag_op_text(program, rank, i, line, sizeof(line)));
    }
}
