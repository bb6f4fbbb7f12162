#include "launch/options.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    GENERATE = 1 << AG_COMMAND_GENERATE,
    EVAL = 1 << AG_COMMAND_EVAL,
    TOKENIZE = 1 << AG_COMMAND_TOKENIZE,
    PLAN = 1 << AG_COMMAND_PLAN,
    SHOW = 1 << AG_COMMAND_SHOW,
    MEASURE = 1 << AG_COMMAND_MEASURE_PROCESS,
    RATES = 1 << AG_COMMAND_MEASURE_RATES,
    COMPUTE = GENERATE | EVAL,
    PLANS = COMPUTE | PLAN | SHOW,
    ALL = PLANS | TOKENIZE,
};

typedef enum kind { TEXT, FLAG, NUMBER, SEED, REAL, STOP, COMPUTE_NAME } kind_t;

typedef struct option {
    const char *name;     /* with its dashes */
    const char *aliases;  /* joined by ' '; NULL: none */
    const char *value;    /* what stands for the value in the help; NULL: none */
    kind_t kind;
    size_t offset;
    unsigned commands;
    double least, most;   /* NUMBER, REAL */
    const char *help;     /* NULL: not shown */
} option_t;

#define AT(field) offsetof(ag_options_t, field)

static const option_t table[] = {
    {"--model", NULL, "M", TEXT, AT(model), ALL, 0, 0, "a GGUF file or a Hugging Face folder"},
    {"--prompt", NULL, "TEXT", TEXT, AT(prompt), GENERATE, 0, 0, "what to continue"},
    {"--prompt-file", NULL, "F", TEXT, AT(prompt_file), GENERATE, 0, 0, "one prompt: a file's text"},
    {"--prompts", NULL, "F", TEXT, AT(prompts), GENERATE, 0, 0, "a JSON string a line, answered in order"},
    {"--tokens", NULL, "IDS.npy", TEXT, AT(tokens), COMPUTE, 0, 0, "token ids, int32; no BOS is added"},
    {"--max-tokens", NULL, "N", NUMBER, AT(max_tokens), GENERATE | PLAN | SHOW, 1, 1 << 24, "make at most N tokens (256)"},
    {"--context", NULL, "N", NUMBER, AT(plan.context_tokens), PLANS, 1, 1 << 24, "positions a sequence may have (what the work needs; plan: the model's)"},
    {"--temperature", NULL, "T", REAL, AT(sampling.temperature), GENERATE, 0, 1e6, "sample, at this temperature (without it: the likeliest token)"},
    {"--top-k", NULL, "K", NUMBER, AT(sampling.top_k), GENERATE, 1, 1 << 24, "among the K likeliest"},
    {"--top-p", NULL, "P", REAL, AT(sampling.top_p), GENERATE, 1e-9, 1, "among the fewest that have probability P"},
    {"--min-p", NULL, "P", REAL, AT(sampling.min_p), GENERATE, 0, 1, "among those at least P times as likely as the likeliest"},
    {"--repeat-penalty", NULL, "R", REAL, AT(sampling.repeat_penalty), GENERATE, 1e-3, 1e3, "make tokens seen less likely (above 1)"},
    {"--seed", NULL, "S", SEED, AT(sampling.seed), GENERATE, 0, 0, "of the sampling (0)"},
    {"--stop", NULL, "TEXT", STOP, 0, GENERATE, 0, 0, "end before this text; may be given again"},
    {"--ignore-eos", NULL, NULL, FLAG, AT(ignore_eos), GENERATE, 0, 0, "run on past end tokens"},
    {"--chat", NULL, NULL, FLAG, AT(chat), GENERATE, 0, 0, "the prompt is one user turn of the model's chat template"},
    {"--text", NULL, "FILE", TEXT, AT(text), EVAL, 0, 0, "the text to predict"},
    {"--text", NULL, "TEXT", TEXT, AT(text), TOKENIZE, 0, 0, "the text (with --decode: one JSON array of ids)"},
    {"--file", NULL, "F", TEXT, AT(file), TOKENIZE, 0, 0, "raw bytes (with --decode: one JSON array)"},
    {"--jsonl", NULL, NULL, FLAG, AT(jsonl), TOKENIZE, 0, 0, "a JSON string (with --decode: array) a line, from standard input or --file"},
    {"--no-special", NULL, NULL, FLAG, AT(no_special), TOKENIZE, 0, 0, "special tokens in the text are text; when decoding they are not shown"},
    {"--decode", NULL, NULL, FLAG, AT(decode), TOKENIZE, 0, 0, "from ids to text"},
    {"--window", NULL, "N", NUMBER, AT(window), EVAL, 1, 1 << 24, "cut the tokens into windows of N (the context)"},
    {"--logits", NULL, "OUT.npy", TEXT, AT(logits), EVAL, 0, 0, "write float32 (positions run, vocabulary)"},
    {"--json", NULL, NULL, FLAG, AT(json), COMPUTE, 0, 0, "one JSON object on standard output"},
    {"--tp", "--tensor-parallel-size --tensor-model-parallel-size", "N[,N]", TEXT, AT(plan.tp), PLANS, 0, 0, "ranks that share each layer, or a degree per stage"},
    {"--pp", "--pipeline-parallel-size --pipeline-model-parallel-size", "N", NUMBER, AT(plan.pp), PLANS, 1, 4096, "pipeline stages"},
    {"--tensor-split", NULL, "5,4[;1]", TEXT, AT(plan.tensor_split), PLANS, 0, 0, "proportions, one per rank of a stage"},
    {"--pipeline-split", NULL, "20,10", TEXT, AT(plan.pipeline_split), PLANS, 0, 0, "layers per stage"},
    {"--max-memory", NULL, "BYTES[,..]", TEXT, AT(plan.max_memory), PLANS, 0, 0, "budget per rank, like 2G (what the machine leaves)"},
    {"--compute", NULL, "auto|f32", COMPUTE_NAME, AT(plan.compute), PLANS, 0, 0, "f32: exact; auto: fast kernels, f16 cache (auto)"},
    {"--threads", NULL, "N", NUMBER, AT(threads), PLANS | RATES, 1, 4096, "per rank (its share of the cores)"},
    {"--plan", NULL, "F", TEXT, AT(plan_file), PLANS, 0, 0, "a plan, as argosy plan prints it"},
    {"--rank", NULL, "R", NUMBER, AT(rank), SHOW, 0, 65535, "show this rank's program only"},
    {"--dry-run", NULL, NULL, FLAG, AT(dry_run), COMPUTE, 0, 0, "print the plan and what it takes; compute nothing"},
    {"--trace", NULL, "F", TEXT, AT(trace), COMPUTE, 0, 0, "write what ran when, for chrome://tracing"},
    {"--renew-limits", NULL, NULL, FLAG, AT(renew_limits), PLANS, 0, 0, "measure the machine's limits anew"},
    {"--with-mpi", NULL, NULL, FLAG, AT(with_mpi), MEASURE, 0, 0, NULL},
    {"--help", "-h", NULL, FLAG, AT(help), ~0u, 0, 0, "this text"},
    {"--version", NULL, NULL, FLAG, AT(version), 1 << AG_COMMAND_NONE, 0, 0, "the version"},
};

enum { N_OPTIONS = sizeof(table) / sizeof(table[0]) };

static const struct {
    const char *name;
    const char *help; /* NULL: hidden */
} commands[AG_N_COMMANDS] = {
    [AG_COMMAND_NONE] = {"", NULL},
    [AG_COMMAND_GENERATE] = {"generate", "continue a prompt"},
    [AG_COMMAND_EVAL] = {"eval", "how well a model predicts a text: perplexity, logits"},
    [AG_COMMAND_TOKENIZE] = {"tokenize", "text to token ids, and back"},
    [AG_COMMAND_PLAN] = {"plan", "the plan as JSON, its memory per rank as a table"},
    [AG_COMMAND_SHOW] = {"show", "the program of each rank as text"},
    [AG_COMMAND_MEASURE_PROCESS] = {"measure-process", NULL},
    [AG_COMMAND_MEASURE_RATES] = {"measure-rates", NULL},
};

void ag_options_help(ag_command_t command, FILE *file)
{
    if (command == AG_COMMAND_NONE) {
        fprintf(file, "argosy: one language model across the machines you have\n\n"
                      "  argosy COMMAND [OPTION]...          on one machine\n"
                      "  mpirun -n 2 argosy COMMAND --tp 2   on several ranks\n\n");
        for (int c = 1; c < AG_N_COMMANDS; c++) {
            if (commands[c].help != NULL) {
                fprintf(file, "  %-10s %s\n", commands[c].name, commands[c].help);
            }
        }
        fprintf(file, "\nargosy COMMAND --help lists its options.\n");
        return;
    }
    fprintf(file, "argosy %s: %s\n\n", commands[command].name,
            commands[command].help != NULL ? commands[command].help : "");
    for (int i = 0; i < N_OPTIONS; i++) {
        if ((table[i].commands & 1u << command) != 0 && table[i].help != NULL) {
            char left[48];

            snprintf(left, sizeof(left), "%s %s", table[i].name,
                     table[i].value != NULL ? table[i].value : "");
            fprintf(file, "  %-26s %s\n", left, table[i].help);
            if (table[i].aliases != NULL) {
                fprintf(file, "  %-26s also %s\n", "", table[i].aliases);
            }
        }
    }
}

/* Is word one of the space-joined words of list? */
static bool is_listed(const char *list, const char *word, size_t n_chars)
{
    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, " ");

        if (n == n_chars && memcmp(list, word, n) == 0) {
            return true;
        }
        list += n + (list[n] == ' ');
    }
    return false;
}

/* An option by name; one of another command where it has none of its own. */
static const option_t *find_option(ag_command_t command, const char *word, size_t n_chars)
{
    const option_t *other = NULL;

    for (int i = 0; i < N_OPTIONS; i++) {
        if (is_listed(table[i].name, word, n_chars) ||
            is_listed(table[i].aliases, word, n_chars)) {
            if ((table[i].commands & 1u << command) != 0) {
                return &table[i];
            }
            other = &table[i];
        }
    }
    return other;
}

/* Levenshtein's distance, for words as short as options. */
static unsigned distance(const char *a, size_t n_a, const char *b)
{
    enum { MOST = 48 };
    unsigned row[MOST + 1];
    size_t n_b = strlen(b);

    if (n_a > MOST || n_b > MOST) {
        return MOST;
    }
    for (size_t j = 0; j <= n_b; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= n_a; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n_b; j++) {
            unsigned replaced = diagonal + (a[i - 1] != b[j - 1]);
            unsigned least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;

            diagonal = row[j];
            row[j] = replaced < least ? replaced : least;
        }
    }
    return row[n_b];
}

static ag_status_t fail_unknown(ag_command_t command, const char *word, size_t n_chars)
{
    const char *nearest = NULL;
    unsigned least = 4;

    for (int i = 0; i < N_OPTIONS; i++) {
        unsigned d = distance(word, n_chars, table[i].name);

        if ((table[i].commands & 1u << command) != 0 && table[i].help != NULL && d < least) {
            least = d;
            nearest = table[i].name;
        }
    }
    return ag_fail(AG_ERR_INVALID, "%.*s is no option of argosy %s%s%s (argosy %s --help lists them)",
                   (int)n_chars, word, commands[command].name,
                   nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                   commands[command].name);
}

static ag_status_t store_number(const option_t *option, const char *value, void *field)
{
    char *end;
    double number;

    errno = 0;
    number = strtod(value, &end);
    if (end == value || *end != '\0' || errno != 0 || !(number >= option->least) ||
        !(number <= option->most) || (option->kind == NUMBER && number != floor(number))) {
        return ag_fail(AG_ERR_INVALID, "%s %s: a %s from %g to %g is expected", option->name, value,
                       option->kind == NUMBER ? "whole number" : "number", option->least,
                       option->most);
    }
    if (option->kind == NUMBER) {
        *(uint32_t *)field = (uint32_t)number;
    } else {
        *(double *)field = number;
    }
    return AG_OK;
}

static ag_status_t store_value(const option_t *option, const char *value, ag_options_t *options)
{
    void *field = (char *)options + option->offset;
    char *end;

    switch (option->kind) {
    case TEXT:
        if (*(const char **)field != NULL) {
            return ag_fail(AG_ERR_INVALID, "%s is given twice", option->name);
        }
        *(const char **)field = value;
        return AG_OK;
    case FLAG:
        *(bool *)field = true;
        return AG_OK;
    case NUMBER:
        options->rank_given |= field == (void *)&options->rank;
        return store_number(option, value, field);
    case REAL:
        return store_number(option, value, field);
    case SEED:
        errno = 0;
        *(uint64_t *)field = strtoull(value, &end, 10);
        return end != value && *end == '\0' && errno == 0 && value[0] != '-'
                   ? AG_OK
                   : ag_fail(AG_ERR_INVALID, "%s %s: a whole number below 2^64 is expected",
                             option->name, value);
    case STOP:
        if (options->n_stops == AG_MAX_STOPS || *value == '\0') {
            return ag_fail(AG_ERR_INVALID, "--stop: 1 to %d texts that are not empty can be given",
                           AG_MAX_STOPS);
        }
        options->stops[options->n_stops++] = value;
        return AG_OK;
    case COMPUTE_NAME:
        if (strcmp(value, "auto") != 0 && strcmp(value, "f32") != 0) {
            return ag_fail(AG_ERR_INVALID, "--compute %s is not known (known: auto, f32)", value);
        }
        *(ag_compute_t *)field = strcmp(value, "f32") == 0 ? AG_COMPUTE_F32 : AG_COMPUTE_AUTO;
        return AG_OK;
    }
    return AG_OK;
}

/* How many of these are given; `names` for the message. */
static ag_status_t need_one(const char *command, const char *names, int n_given)
{
    return n_given == 1 ? AG_OK
                        : ag_fail(AG_ERR_INVALID, "argosy %s needs %s of %s", command,
                                  n_given == 0 ? "one" : "only one", names);
}

static ag_status_t check_generate(const ag_options_t *o)
{
    const ag_sampling_t *s = &o->sampling;
    int n_given = (o->prompt != NULL) + (o->prompt_file != NULL) + (o->prompts != NULL) +
                  (o->tokens != NULL);
    ag_status_t status =
        need_one("generate", "--prompt, --prompt-file, --prompts and --tokens", n_given);

    if (status != AG_OK) {
        return status;
    }
    if (!(s->temperature > 0) && (s->top_k > 0 || s->top_p > 0 || s->min_p > 0)) {
        return ag_fail(AG_ERR_INVALID, "--top-k, --top-p and --min-p choose among samples: give "
                                       "--temperature above 0 too");
    }
    if (o->chat && o->tokens != NULL) {
        return ag_fail(AG_ERR_INVALID, "--chat makes a turn of a text: it cannot go with --tokens");
    }
    return AG_OK;
}

static ag_status_t check_options(const ag_options_t *o)
{
    if (o->command >= AG_COMMAND_MEASURE_PROCESS) {
        return AG_OK;
    }
    if (o->model == NULL) {
        return ag_fail(AG_ERR_INVALID, "argosy %s needs --model: a GGUF file or a Hugging Face folder",
                       commands[o->command].name);
    }
    if (o->plan_file != NULL && (o->plan.tp != NULL || o->plan.pp > 0 ||
                                 o->plan.tensor_split != NULL || o->plan.pipeline_split != NULL)) {
        return ag_fail(AG_ERR_INVALID, "--plan decides what --tp, --pp, --tensor-split and "
                                       "--pipeline-split do: give one or the other");
    }
    switch (o->command) {
    case AG_COMMAND_GENERATE:
        return check_generate(o);
    case AG_COMMAND_EVAL:
        return need_one("eval", "--text and --tokens", (o->text != NULL) + (o->tokens != NULL));
    case AG_COMMAND_TOKENIZE:
        if (o->jsonl) {
            return o->text == NULL ? AG_OK
                                   : ag_fail(AG_ERR_INVALID, "--jsonl reads standard input or "
                                                             "--file: it cannot go with --text");
        }
        return need_one("tokenize", "--text, --file and --jsonl",
                        (o->text != NULL) + (o->file != NULL));
    default:
        return AG_OK;
    }
}

static ag_status_t parse_option(int argc, char **argv, int *at, ag_options_t *options)
{
    const char *word = argv[*at], *equals = strchr(word, '=');
    size_t n_chars = equals != NULL ? (size_t)(equals - word) : strlen(word);
    const option_t *option = find_option(options->command, word, n_chars);
    const char *value = equals != NULL ? equals + 1 : NULL;

    if (option == NULL) {
        return fail_unknown(options->command, word, n_chars);
    }
    if ((option->commands & 1u << options->command) == 0) {
        return ag_fail(AG_ERR_INVALID, "%.*s is no option of argosy %s", (int)n_chars, word,
                       commands[options->command].name);
    }
    if (option->kind == FLAG && value != NULL) {
        return ag_fail(AG_ERR_INVALID, "%s takes no value", option->name);
    }
    if (option->kind != FLAG && value == NULL) {
        if (*at + 1 >= argc) {
            return ag_fail(AG_ERR_INVALID, "%s needs a value: %s", option->name, option->value);
        }
        value = argv[++*at];
    }
    return store_value(option, value, options);
}

static ag_status_t parse_command(const char *word, ag_command_t *command_p)
{
    for (int c = 1; c < AG_N_COMMANDS; c++) {
        if (strcmp(word, commands[c].name) == 0) {
            *command_p = (ag_command_t)c;
            return AG_OK;
        }
    }
    return ag_fail(AG_ERR_INVALID, "\"%s\" is no command (known: generate, eval, tokenize, plan, "
                                   "show)",
                   word);
}

ag_status_t ag_options_parse(int argc, char **argv, ag_options_t *options)
{
    ag_status_t status = AG_OK;
    int at = 1;

    *options = (ag_options_t){.max_tokens = 256};
    if (argc < 2) {
        return ag_fail(AG_ERR_INVALID, "a command is needed (generate, eval, tokenize, plan, show); "
                                       "argosy --help says more");
    }
    if (argv[1][0] != '-') {
        status = parse_command(argv[1], &options->command);
        at = 2;
    }
    for (; at < argc && status == AG_OK; at++) {
        if (argv[at][0] != '-' || argv[at][1] == '\0') {
            return ag_fail(AG_ERR_INVALID, "\"%s\" is not understood: options begin with --",
                           argv[at]);
        }
        status = parse_option(argc, argv, &at, options);
    }
    if (status != AG_OK || options->help || options->version) {
        return status;
    }
    if (options->command == AG_COMMAND_NONE) {
        return ag_fail(AG_ERR_INVALID, "a command is needed before the options");
    }
    return check_options(options);
}
