/* What to tell who started another number of ranks than the plan has. */
#include <stdio.h>
#include <string.h>

#include "parallel/plan/plan_priv.h"
#include "runtime/base/line.h"

/* The options that say how many ranks there are. */
typedef struct rank_option {
    const char *name, *value; /* NULL: not given */
} rank_option_t;

enum { N_RANK_OPTIONS = 8, MOST_VALUE_CHARS = 40, LINE_BYTES = 256, MOST_UNEVEN_STAGES = 8 };

/* @param numbers  storage for two of the values. */
static void list_rank_options(const ag_plan_opts_t *opts, char numbers[2][16],
                              rank_option_t list[N_RANK_OPTIONS])
{
    snprintf(numbers[0], sizeof(numbers[0]), "%u", opts->pp);
    snprintf(numbers[1], sizeof(numbers[1]), "%u", opts->dp);
    list[0] = (rank_option_t){"--tp", opts->tp};
    list[1] = (rank_option_t){"--pp", opts->pp > 0 ? numbers[0] : NULL};
    list[2] = (rank_option_t){"--tensor-split", opts->tensor_split};
    list[3] = (rank_option_t){"--pipeline-split", opts->pipeline_split};
    list[4] = (rank_option_t){"--ep", opts->ep};
    list[5] = (rank_option_t){"--expert-split", opts->expert_split};
    list[6] = (rank_option_t){"--dp", opts->dp > 0 ? numbers[1] : NULL};
    list[7] = (rank_option_t){"--micro-batches", opts->dp > 0 ? opts->micro_batches : NULL};
}

static void name_options(const ag_plan_opts_t *opts, bool with_values, const char *between,
                         char *text, size_t n_bytes)
{
    rank_option_t list[N_RANK_OPTIONS];
    char numbers[2][16];

    text[0] = '\0';
    if (opts == NULL) {
        ag_line_append(text, n_bytes, "--plan");
        return;
    }
    list_rank_options(opts, numbers, list);
    for (int i = 0; i < N_RANK_OPTIONS; i++) {
        const rank_option_t *option = &list[i];

        if (option->value != NULL) {
            ag_line_append(text, n_bytes, "%s%s", text[0] != '\0' ? between : "", option->name);
        }
        if (option->value != NULL && with_values && strlen(option->value) <= MOST_VALUE_CHARS) {
            ag_line_append(text, n_bytes, " %s", option->value);
        }
    }
}

void ag_plan_opts_text(const ag_plan_opts_t *opts, char *text, size_t n_bytes)
{
    name_options(opts, true, " ", text, n_bytes);
}

/* Ways to use the ranks that were started, as they are found. */
typedef struct ways {
    ag_plan_opts_t opts; /* what else was given */
    const ag_plan_trial_t *trial;
    bool found;
    char text[LINE_BYTES];
} ways_t;

/* @param tp  NULL: one rank a stage. @param pp  0: as many stages as tp lists. */
static bool try_way(ways_t *ways, const char *tp, uint32_t pp)
{
    char stages[24] = "";

    ways->opts.tp = tp;
    ways->opts.pp = pp;
    if (!ways->trial->works(ways->trial->arg, &ways->opts)) {
        return false;
    }
    if (pp > 0) {
        snprintf(stages, sizeof(stages), "%s--pp %u", tp != NULL ? " " : "", pp);
    }
    ag_line_append(ways->text, sizeof(ways->text), ", or %s%s%s%s", ways->found ? "" : "give ",
                   tp != NULL ? "--tp " : "", tp != NULL ? tp : "", stages);
    ways->found = true;
    return true;
}

/* All share the experts of every layer out, and each has the attention whole. */
static void try_experts(ways_t *ways, uint32_t n)
{
    char ep[16];

    snprintf(ep, sizeof(ep), "%u", n);
    ways->opts.tp = NULL;
    ways->opts.pp = 0;
    ways->opts.ep = ep;
    if (ways->trial->works(ways->trial->arg, &ways->opts)) {
        ag_line_append(ways->text, sizeof(ways->text), ", or %s--ep %s", ways->found ? "" : "give ",
                       ep);
        ways->found = true;
    }
    ways->opts.ep = NULL;
}

static bool try_rectangle(ways_t *ways, uint32_t degree, uint32_t n_stages)
{
    char tp[16];

    snprintf(tp, sizeof(tp), "%u", degree);
    return try_way(ways, tp, n_stages);
}

/* The first stages have one rank more. */
static bool try_uneven(ways_t *ways, uint32_t n, uint32_t n_stages)
{
    char tp[64] = "";

    for (uint32_t s = 0; s < n_stages; s++) {
        ag_line_append(tp, sizeof(tp), "%s%u", s > 0 ? "," : "", n / n_stages + (s < n % n_stages));
    }
    return try_way(ways, tp, 0);
}

/* All in a stage, a rectangle as square as can be, all in a row; uneven ones where none will do. */
static void find_ways(ways_t *ways, uint32_t n)
{
    uint32_t root = 1;
    bool rectangle = false;

    try_rectangle(ways, n, 0);
    try_experts(ways, n);
    while ((root + 1) * (root + 1) <= n) {
        root++;
    }
    for (uint32_t d = root; d >= 2 && !rectangle; d--) {
        rectangle = n % d == 0 && (try_rectangle(ways, n / d, d) ||
                                   (d != n / d && try_rectangle(ways, d, n / d)));
    }
    try_way(ways, NULL, n);
    for (uint32_t s = 2; s <= MOST_UNEVEN_STAGES && s < n && !ways->found; s++) {
        try_uneven(ways, n, s);
    }
}

static void suggest(ways_t *ways, const ag_plan_opts_t *given, uint32_t n)
{
    char names[LINE_BYTES];

    if (n == 0 || n > AG_MAX_RANKS) {
        return;
    }
    name_options(given, false, " and ", names, sizeof(names));
    if (n == 1) {
        if (ways->trial->works(ways->trial->arg, &ways->opts)) {
            ag_line_append(ways->text, sizeof(ways->text), ", or leave %s out", names);
        }
        return;
    }
    find_ways(ways, n);
    if (ways->found && names[0] != '\0') {
        ag_line_append(ways->text, sizeof(ways->text), " instead");
    }
}

ag_status_t ag_plan_check_ranks(const ag_plan_t *plan, const ag_plan_opts_t *opts,
                                uint32_t n_started, const ag_plan_trial_t *trial)
{
    uint32_t n_ranks = ag_plan_ranks(plan);
    ways_t ways = {.opts = opts != NULL ? *opts : (ag_plan_opts_t){0}, .trial = trial};
    char said[LINE_BYTES], run[64] = "run it without mpirun";

    if (n_ranks == n_started) {
        return AG_OK;
    }
    ways.opts.tp = ways.opts.tensor_split = ways.opts.pipeline_split = NULL;
    ways.opts.ep = ways.opts.expert_split = NULL;
    ways.opts.pp = ways.opts.dp = 0;
    ways.opts.micro_batches = NULL;
    suggest(&ways, opts, n_started);
    ag_plan_opts_text(opts, said, sizeof(said));
    if (n_ranks > 1) {
        snprintf(run, sizeof(run), "run mpirun -n %u", n_ranks);
    }
    return ag_fail(AG_ERR_INVALID, "the plan has %u rank%s%s%s%s, but %u %s started: %s%s", n_ranks,
                   n_ranks == 1 ? "" : "s", said[0] != '\0' ? " (" : "", said,
                   said[0] != '\0' ? ")" : "", n_started, n_started == 1 ? "was" : "were", run,
                   ways.text);
}
