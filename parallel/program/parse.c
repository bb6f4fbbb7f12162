/* Program text, a function for each kind of line; text.h says what stands in it. */
#include <stdlib.h>
#include <string.h>

#include "parallel/program/words.h"

/* What is beyond these is a mistake, not a program; and no sum of two sizes overflows. */
#define MOST_BYTES (1ull << 48)
#define MOST_UNIT_BYTES (1ull << 38)
#define MOST_COUNTED (1ull << 24)
enum { MOST_RANKS = 65536, MOST_LAYER = (1 << 16) - 1, MOST_PARTS = 1 << 22, MOST_OP = 1 << 24 };

/* What an operation waits for may stand below it: looked up when the rank's lines are all read. */
typedef struct named_dep {
    ag_program_text_t where;
    uint32_t stream, op;
} named_dep_t;

typedef struct parser {
    ag_words_t words;
    ag_program_t *program;
    uint32_t rank;   /* that is being read */
    ag_array_t deps; /* named_dep_t, of that rank */
    size_t n_parts;  /* of the program */
} parser_t;

static const char *nth_counter(uint32_t i)
{
    return ag_counter_names[i];
}

static const char *nth_run_counter(uint32_t i)
{
    return ag_counter_names[AG_N_STEP_COUNTERS + i];
}

static const char *nth_stream(uint32_t i)
{
    return ag_stream_names[i];
}

static const char *nth_kind(uint32_t i)
{
    return ag_op_infos[i].name;
}

static const char *nth_part(uint32_t i)
{
    return ag_part_infos[i].name;
}

static const char *nth_use(uint32_t i)
{
    static const char *const names[] = {"r", "w", "rw"}; /* AG_USE_READ and AG_USE_WRITE */

    return names[i];
}

static ag_rank_program_t *rank_of(const parser_t *parser)
{
    return &parser->program->ranks[parser->rank];
}

static uint32_t number32(parser_t *parser, const char *what, uint64_t most)
{
    return (uint32_t)ag_words_number(&parser->words, what, 0, most);
}

/* Keep the status of what stores things. @return is all well? */
static bool keep(parser_t *parser, ag_status_t status)
{
    if (parser->words.status == AG_OK) {
        parser->words.status = status;
    }
    return parser->words.status == AG_OK;
}

static bool is_well(const parser_t *parser)
{
    return parser->words.status == AG_OK;
}

/* "{0,2..5}": the ranks in this order; no more than the program has. */
static void read_ranks(parser_t *parser, ag_array_t *ranks)
{
    uint32_t n_ranks = parser->program->n_ranks;

    ag_words_expect(&parser->words, "{");
    do {
        uint32_t first = number32(parser, "a rank", n_ranks - 1), last = first;

        if (ag_words_take(&parser->words, "..")) {
            last = (uint32_t)ag_words_number(&parser->words, "a rank", first, n_ranks - 1);
        }
        for (uint32_t r = first; is_well(parser) && r <= last; r++) {
            if (ranks->n_items == n_ranks) {
                ag_words_fail(&parser->words, "each rank once at most");
            } else {
                keep(parser, ag_array_append(ranks, &r, 1));
            }
        }
    } while (ag_words_take(&parser->words, ","));
    ag_words_expect(&parser->words, "}");
}

static ag_program_group_t *find_group(const parser_t *parser, const ag_array_t *ranks,
                                      uint32_t *group_p)
{
    ag_program_group_t *groups = AG_ITEMS(&parser->program->groups, ag_program_group_t);

    for (size_t i = 0; i < parser->program->groups.n_items; i++) {
        if (groups[i].n_ranks == ranks->n_items &&
            memcmp(groups[i].ranks, ranks->items, ranks->n_items * sizeof(uint32_t)) == 0) {
            *group_p = (uint32_t)i;
            return &groups[i];
        }
    }
    return NULL;
}

/* "group {0,1} channel 1" */
static void read_group(parser_t *parser)
{
    ag_array_t ranks = AG_ARRAY(uint32_t);
    uint32_t channel, group;

    read_ranks(parser, &ranks);
    if (is_well(parser) && find_group(parser, &ranks, &group) != NULL) {
        ag_words_fail(&parser->words, "a group that does not stand above");
    }
    ag_words_expect(&parser->words, "channel");
    channel = number32(parser, "a channel", UINT32_MAX);
    if (is_well(parser) &&
        keep(parser, ag_program_group(parser->program, AG_ITEMS(&ranks, uint32_t),
                                      (uint32_t)ranks.n_items, &group))) {
        AG_ITEMS(&parser->program->groups, ag_program_group_t)[group].channel = channel;
    }
    ag_array_fini(&ranks);
    ag_words_expect_line_end(&parser->words);
}

/* A buffer of the rank by its name. @return NULL: there is none. */
static ag_buffer_t *find_buffer(const parser_t *parser, const char *name, uint32_t *buffer_p)
{
    ag_buffer_t *buffers = AG_ITEMS(&rank_of(parser)->buffers, ag_buffer_t);

    for (size_t i = 0; i < rank_of(parser)->buffers.n_items; i++) {
        if (strcmp(buffers[i].name, name) == 0) {
            *buffer_p = (uint32_t)i;
            return &buffers[i];
        }
    }
    return NULL;
}

static uint32_t read_buffer_name(parser_t *parser)
{
    ag_program_text_t before = *parser->words.text;
    uint32_t buffer = 0;
    char name[sizeof(((ag_buffer_t *)0)->name)];

    ag_words_name(&parser->words, "a buffer", sizeof(name), name);
    if (is_well(parser) && find_buffer(parser, name, &buffer) == NULL) {
        *parser->words.text = before;
        ag_words_fail(&parser->words, "a buffer of this rank that stands above");
    }
    return buffer;
}

/* "buffer p 288 x tokens 36864 bytes at 73728"; without the last two, by the bounds and at 0. */
static void read_buffer(parser_t *parser)
{
    ag_program_text_t before = *parser->words.text;
    uint64_t unit_bytes, bytes, offset_bytes = 0;
    ag_size_counter_t counter;
    uint32_t buffer;
    char name[sizeof(((ag_buffer_t *)0)->name)];

    ag_words_name(&parser->words, "a buffer", sizeof(name), name);
    if (is_well(parser) && find_buffer(parser, name, &buffer) != NULL) {
        *parser->words.text = before;
        ag_words_fail(&parser->words, "a buffer that does not stand above");
    }
    unit_bytes = ag_words_number(&parser->words, "bytes of a unit", 0, MOST_UNIT_BYTES);
    ag_words_expect(&parser->words, "x");
    counter = (ag_size_counter_t)ag_words_choose(&parser->words, "what is counted",
                                                 AG_N_SIZE_COUNTERS, nth_counter);
    bytes = unit_bytes * parser->program->bounds[counter];
    if (!ag_words_line_ends(&parser->words) && !ag_words_look(&parser->words, "at")) {
        bytes = ag_words_number(&parser->words, "bytes", 0, MOST_BYTES);
        ag_words_expect(&parser->words, "bytes");
    }
    if (ag_words_take(&parser->words, "at")) {
        offset_bytes = ag_words_number(&parser->words, "an offset", 0, MOST_BYTES);
    }
    ag_words_expect_line_end(&parser->words);
    if (is_well(parser) && keep(parser, ag_program_add_buffer(parser->program, parser->rank, name,
                                                              unit_bytes, counter, &buffer))) {
        ag_buffer_t *added = &AG_ITEMS(&rank_of(parser)->buffers, ag_buffer_t)[buffer];

        added->bytes = bytes;
        added->offset_bytes = offset_bytes;
    }
}

/* "output logits" */
static void read_output(parser_t *parser)
{
    uint32_t buffer = read_buffer_name(parser);

    if (parser->rank != 0) {
        ag_words_fail(&parser->words, "the output among rank 0's lines");
    }
    ag_words_expect_line_end(&parser->words);
    parser->program->output_buffer = buffer;
}

/* The parts of the model of each layer from first to last: kinds, in this order. */
static void add_layers(parser_t *parser, const ag_array_t *kinds, uint32_t first, uint32_t last,
                       ag_array_t *parts)
{
    parser->n_parts += kinds->n_items * (last - first + 1);
    if (parser->n_parts > MOST_PARTS) {
        ag_words_fail(&parser->words, "a program of fewer parts");
    }
    for (uint32_t layer = first; is_well(parser) && layer <= last; layer++) {
        for (size_t i = 0; i < kinds->n_items; i++) {
            ag_part_t part = {AG_ITEMS(kinds, uint32_t)[i], layer};

            if (!keep(parser, ag_array_append(parts, &part, 1))) {
                return;
            }
        }
    }
}

/* "embed", "attn L3", "attn+ffn L0..29" */
static void read_parts(parser_t *parser, ag_array_t *parts)
{
    ag_array_t kinds = AG_ARRAY(uint32_t);
    uint32_t first = 0, last = 0;
    bool has_layer;

    do {
        uint32_t kind =
            ag_words_choose(&parser->words, "a part of the model", AG_N_PART_KINDS, nth_part);

        has_layer = ag_part_infos[kind].has_layer;
        if (!has_layer && kinds.n_items > 0) {
            ag_words_fail(&parser->words, "a part of one layer");
        }
        keep(parser, ag_array_append(&kinds, &kind, 1));
    } while (has_layer && ag_words_take(&parser->words, "+"));
    if (has_layer) {
        ag_words_expect(&parser->words, "L");
        first = last = number32(parser, "a layer", MOST_LAYER);
        if (ag_words_take(&parser->words, "..")) {
            last = (uint32_t)ag_words_number(&parser->words, "a layer", first, MOST_LAYER);
        }
    }
    if (is_well(parser)) {
        add_layers(parser, &kinds, first, last, parts);
    }
    ag_array_fini(&kinds);
}

static void read_segment(parser_t *parser, ag_op_t *op)
{
    ag_array_t *segments = &rank_of(parser)->segments;
    ag_segment_t segment = {.parts = AG_ARRAY(ag_part_t)};

    do {
        read_parts(parser, &segment.parts);
    } while (is_well(parser) && !ag_words_look(&parser->words, "mb"));
    op->subject = (uint32_t)segments->n_items;
    if (!is_well(parser) || !keep(parser, ag_array_append(segments, &segment, 1))) {
        ag_array_fini(&segment.parts);
    }
}

/* "shares 3,0,5": floats, of each rank of the group */
static void read_shares(parser_t *parser, uint32_t n_ranks, ag_op_t *op)
{
    ag_array_t floats = AG_ARRAY(uint64_t);

    for (uint32_t i = 0; i < n_ranks && is_well(parser); i++) {
        uint64_t n;

        if (i > 0) {
            ag_words_expect(&parser->words, ",");
        }
        n = ag_words_number(&parser->words, "a rank's share", 0, MOST_UNIT_BYTES / sizeof(float));
        keep(parser, ag_array_append(&floats, &n, 1));
    }
    if (is_well(parser)) {
        keep(parser, ag_program_share_out(parser->program, AG_ITEMS(&floats, uint64_t), n_ranks,
                                          &op->shares));
    }
    ag_array_fini(&floats);
}

static void read_collective(parser_t *parser, ag_op_t *op)
{
    ag_array_t ranks = AG_ARRAY(uint32_t);
    ag_program_text_t before = *parser->words.text;
    const ag_program_group_t *group;

    read_ranks(parser, &ranks);
    group = find_group(parser, &ranks, &op->subject);
    if (is_well(parser) && group == NULL) {
        *parser->words.text = before;
        ag_words_fail(&parser->words, "a group that stands above");
    }
    op->channel = group != NULL ? group->channel : 0;
    if (group != NULL && ag_words_take(&parser->words, "shares")) {
        read_shares(parser, group->n_ranks, op);
    }
    ag_array_fini(&ranks);
}

/* Kind, and what it is about. */
static void read_what(parser_t *parser, ag_op_t *op)
{
    op->kind =
        (uint8_t)ag_words_choose(&parser->words, "a kind of operation", AG_N_OP_KINDS, nth_kind);
    op->peer = -1;
    if (op->kind == AG_OP_SEGMENT) {
        read_segment(parser, op);
    } else if (ag_op_infos[op->kind].is_message) {
        ag_words_expect(&parser->words, op->kind == AG_OP_SEND ? "to" : "from");
        ag_words_expect(&parser->words, "rank");
        op->peer = (int32_t)number32(parser, "a rank", parser->program->n_ranks - 1);
        op->channel = AG_LINK_CHANNEL;
    } else {
        read_collective(parser, op);
    }
    ag_words_expect(&parser->words, "mb");
    op->micro_batch = (uint16_t)number32(parser, "a micro-batch", UINT16_MAX);
    if (ag_words_take(&parser->words, ".a")) {
        op->half = AG_HALF_A;
    } else if (ag_words_take(&parser->words, ".b")) {
        op->half = AG_HALF_B;
    } else if (ag_words_take(&parser->words, ".s")) {
        op->half = AG_ROWS_SHARE;
    }
    if (ag_words_take(&parser->words, "c")) {
        op->chunk = (uint16_t)number32(parser, "a chunk", UINT16_MAX);
    }
    if (ag_words_take(&parser->words, "channel")) {
        op->channel = number32(parser, "a channel", UINT32_MAX);
    }
}

/* "288 x tokens", "-" */
static void read_extent(parser_t *parser, ag_op_t *op)
{
    if (ag_words_take(&parser->words, "-")) {
        return;
    }
    op->unit_bytes = ag_words_number(&parser->words, "bytes of a unit", 0, MOST_UNIT_BYTES);
    ag_words_expect(&parser->words, "x");
    op->counter = (uint8_t)ag_words_choose(&parser->words, "what is counted", AG_N_SIZE_COUNTERS,
                                           nth_counter);
}

/* "compute.17,tensor.3", "-" */
static void read_after(parser_t *parser, ag_op_t *op)
{
    op->first_dep = (uint32_t)parser->deps.n_items;
    if (ag_words_take(&parser->words, "-")) {
        return;
    }
    do {
        named_dep_t dep = {.where = *parser->words.text};

        dep.stream = ag_words_choose(&parser->words, "a stream", AG_N_STREAMS, nth_stream);
        ag_words_expect(&parser->words, ".");
        dep.op = number32(parser, "an operation", MOST_OP);
        keep(parser, ag_array_append(&parser->deps, &dep, 1));
        op->n_deps++;
    } while (ag_words_take(&parser->words, ","));
}

/* "r:x w+:p rw&:g", "-" */
static uint32_t read_uses(parser_t *parser, ag_use_t uses[AG_MAX_USES])
{
    uint32_t n_uses = 0;

    if (ag_words_take(&parser->words, "-")) {
        return 0;
    }
    do {
        uint32_t mode = AG_USE_READ + ag_words_choose(&parser->words, "a use", 3, nth_use);

        if ((mode & AG_USE_WRITE) && ag_words_take(&parser->words, "+")) {
            mode |= AG_USE_PARTIAL;
        } else if (ag_words_take(&parser->words, "/")) {
            mode |= AG_USE_SHARE;
        } else if (mode == (AG_USE_READ | AG_USE_WRITE) && ag_words_take(&parser->words, "&")) {
            mode |= AG_USE_ADD;
        }
        ag_words_expect(&parser->words, ":");
        uses[n_uses++] = (ag_use_t){read_buffer_name(parser), mode};
    } while (n_uses < AG_MAX_USES && !ag_words_line_ends(&parser->words));
    return n_uses;
}

/* "18 tensor ALL_REDUCE {0,1} mb0 288 x tokens compute.17 rw:p" */
static void read_op(parser_t *parser)
{
    uint64_t number = rank_of(parser)->ops.n_items;
    ag_use_t uses[AG_MAX_USES];
    ag_op_t op = {0};
    uint32_t n_uses;

    ag_words_number(&parser->words, "an operation's number", number, number);
    op.stream = (uint8_t)ag_words_choose(&parser->words, "a stream", AG_N_STREAMS, nth_stream);
    read_what(parser, &op);
    read_extent(parser, &op);
    read_after(parser, &op);
    n_uses = read_uses(parser, uses);
    ag_words_expect_line_end(&parser->words);
    if (is_well(parser)) {
        keep(parser, ag_program_add_op(parser->program, parser->rank, &op, uses, n_uses));
    }
}

/* Each operation that one waits for is there, and on that stream. */
static void resolve_deps(parser_t *parser)
{
    const ag_rank_program_t *rank = rank_of(parser);

    for (size_t i = 0; is_well(parser) && i < parser->deps.n_items; i++) {
        const named_dep_t *dep = &AG_ITEMS(&parser->deps, named_dep_t)[i];

        if (dep->op >= rank->ops.n_items || ag_rank_ops(rank)[dep->op].stream != dep->stream) {
            *parser->words.text = dep->where;
            ag_words_fail(&parser->words, "the number of an operation on its stream");
        }
        keep(parser, ag_array_append(&rank_of(parser)->deps, &dep->op, 1));
    }
    parser->deps.n_items = 0;
}

/* "rank 0: 110592 bytes", and the lines below it. */
static void read_rank(parser_t *parser)
{
    ag_words_t *words = &parser->words;

    ag_words_next_line(words);
    ag_words_expect(words, "rank");
    ag_words_number(words, "the next rank", parser->rank, parser->rank);
    ag_words_expect(words, ":");
    if (!ag_words_line_ends(words)) {
        rank_of(parser)->memory_bytes = ag_words_number(words, "bytes", 0, MOST_BYTES);
        ag_words_expect(words, "bytes");
    }
    ag_words_expect_line_end(words);
    while (ag_words_next_line(words) && !ag_words_look(words, "rank") &&
           !ag_words_look(words, "argosy_program")) {
        if (ag_words_take(words, "buffer")) {
            read_buffer(parser);
        } else if (ag_words_take(words, "output")) {
            read_output(parser);
        } else {
            read_op(parser);
        }
    }
    resolve_deps(parser);
}

/* "argosy_program 1: 2 ranks, at most 128 tokens, 1 outputs, 1 sequences" */
static uint32_t read_heading(ag_words_t *words, uint64_t bounds[AG_N_SIZE_COUNTERS])
{
    size_t n_left;
    uint32_t n_ranks;

    ag_words_next_line(words);
    ag_words_expect(words, "argosy_program");
    ag_words_number(words, "the version", 1, 1);
    ag_words_expect(words, ":");
    n_left = (size_t)(words->text->end - words->text->at); /* each rank has a line */
    n_ranks = (uint32_t)ag_words_number(words, "a number of ranks", 1,
                                        n_left < MOST_RANKS ? n_left : MOST_RANKS);
    ag_words_expect(words, "ranks");
    ag_words_expect(words, ",");
    ag_words_expect(words, "at");
    ag_words_expect(words, "most");
    bounds[AG_SIZE_ONE] = 1;
    for (int c = AG_SIZE_ONE + 1; c < AG_N_STEP_COUNTERS; c++) {
        bounds[c] = ag_words_number(words, "a bound", 0, MOST_COUNTED);
        ag_words_expect(words, ag_counter_names[c]);
        if (c + 1 < AG_N_STEP_COUNTERS) {
            ag_words_expect(words, ",");
        }
    }
    for (int c = AG_N_STEP_COUNTERS; c < AG_N_SIZE_COUNTERS; c++) {
        bounds[c] = 0;
    }
    while (ag_words_take(words, ",")) {
        uint64_t bound = ag_words_number(words, "a bound", 1, MOST_COUNTED);

        bounds[AG_N_STEP_COUNTERS + ag_words_choose(words, "what is counted",
                                                    AG_N_SIZE_COUNTERS - AG_N_STEP_COUNTERS,
                                                    nth_run_counter)] = bound;
    }
    ag_words_expect_line_end(words);
    return n_ranks;
}

ag_status_t ag_program_parse(ag_program_text_t *text, ag_program_t **program_p)
{
    parser_t parser = {.words = {.text = text}, .deps = AG_ARRAY(named_dep_t)};
    uint64_t bounds[AG_N_SIZE_COUNTERS];
    uint32_t n_ranks = read_heading(&parser.words, bounds);

    if (!is_well(&parser) ||
        !keep(&parser, ag_program_create(n_ranks, bounds, NULL, &parser.program))) {
        return parser.words.status;
    }
    while (ag_words_next_line(&parser.words) && ag_words_take(&parser.words, "group")) {
        read_group(&parser);
    }
    for (; is_well(&parser) && parser.rank < n_ranks; parser.rank++) {
        read_rank(&parser);
    }
    ag_words_next_line(&parser.words);
    if (text->at < text->end && !ag_words_look(&parser.words, "argosy_program")) {
        ag_words_fail(&parser.words, "the end of the text, or another argosy_program,");
    }
    ag_array_fini(&parser.deps);
    if (!is_well(&parser)) {
        ag_program_destroy(parser.program);
        return parser.words.status;
    }
    *program_p = parser.program;
    return AG_OK;
}
