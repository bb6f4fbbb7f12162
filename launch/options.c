#include "launch/options_priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/run/train.h"
#include "runtime/base/line.h"

/* The parser: what is read, and which options were. */
typedef struct parser {
    int argc, at;
    char **argv;
    ag_options_t *options;
    bool given[AG_MOST_OPTIONS]; /* each row of the ag_option_table */
} parser_t;

static bool parse_whole(const char *value, uint64_t *number_p)
{
    char *end;

    if (*value < '0' || *value > '9') { /* strtoull takes blanks and signs */
        return false;
    }
    errno = 0;
    *number_p = strtoull(value, &end, 10);
    return *end == '\0' && errno == 0;
}

static bool parse_real(const char *value, double *number_p)
{
    char *end;

    if (*value == '\0' || value[strspn(value, "0123456789.eE+-")] != '\0') {
        return false; /* strtod takes blanks, hexadecimal numbers, "inf" and "nan" */
    }
    *number_p = strtod(value, &end);
    return *end == '\0' && isfinite(*number_p);
}

static ag_status_t fail_value(const ag_option_t *option, const char *value, const char *expected)
{
    return ag_fail(AG_ERR_INVALID, "%s %s: %s is expected", option->name, value, expected);
}

static ag_status_t store_whole(const ag_option_t *option, const char *value, uint32_t *field)
{
    static const struct {
        const char *expected;
        uint32_t least, most;
    } ranges[AG_N_OPTION_KINDS] = {
        [AG_OPTION_COUNT] = {"a whole number from 1 to 16777216", 1, 16777216},
        [AG_OPTION_FEW] = {"a whole number from 1 to 4096", 1, 4096},
        [AG_OPTION_INDEX] = {"a whole number from 0 to 16777216", 0, 16777216},
    };
    uint64_t number;

    if (!parse_whole(value, &number) || number < ranges[option->kind].least ||
        number > ranges[option->kind].most) {
        return fail_value(option, value, ranges[option->kind].expected);
    }
    *field = (uint32_t)number;
    return AG_OK;
}

static ag_status_t store_real(const ag_option_t *option, const char *value, double *field)
{
    static const struct {
        const char *expected;
        bool above_0; /* 0 itself is out */
        double most;
        bool below_most; /* and that, too */
    } ranges[AG_N_OPTION_KINDS] = {
        [AG_OPTION_POSITIVE] = {"a number above 0", true, HUGE_VAL, false},
        [AG_OPTION_FROM_0] = {"a number that is 0 or more", false, HUGE_VAL, false},
        [AG_OPTION_FRACTION] = {"a number above 0 and at most 1", true, 1, false},
        [AG_OPTION_PART] = {"a number from 0 to 1", false, 1, false},
        [AG_OPTION_DECAY] = {"a number from 0 to below 1", false, 1, true},
    };
    double number;

    if (!parse_real(value, &number) || number < 0 || number > ranges[option->kind].most ||
        (number == 0 && ranges[option->kind].above_0) ||
        ((float)number == ranges[option->kind].most && ranges[option->kind].below_most)) {
        return fail_value(option, value, ranges[option->kind].expected);
    }
    *field = number;
    return AG_OK;
}

static ag_status_t store_stop(const char *value, ag_options_t *options)
{
    if (*value == '\0') {
        return ag_fail(AG_ERR_INVALID, "--stop is given an empty text, which is everywhere");
    }
    if (options->n_stops == AG_MAX_STOPS) {
        return ag_fail(AG_ERR_INVALID, "--stop is given more than %d times", AG_MAX_STOPS);
    }
    options->stops[options->n_stops++] = value;
    return AG_OK;
}

static ag_status_t store_path(const ag_option_t *option, const char *value, ag_paths_t *paths)
{
    if (*value == '\0') {
        return ag_fail(AG_ERR_INVALID, "%s is given an empty name: %s", option->name, option->help);
    }
    if (paths->n_items == AG_MAX_PATHS) {
        return ag_fail(AG_ERR_INVALID, "%s is given more than %d files: join some", option->name,
                       AG_MAX_PATHS);
    }
    paths->items[paths->n_items++] = value;
    return AG_OK;
}

/* A value that is one of some names: its number. */
static ag_status_t store_name(const ag_option_t *option, const char *value,
                              const char *const *names, uint32_t n_names, uint32_t *field)
{
    char known[128] = "";

    for (uint32_t i = 0; i < n_names; i++) {
        if (strcmp(value, names[i]) == 0) {
            *field = i;
            return AG_OK;
        }
        ag_line_append(known, sizeof(known), "%s%s",
                       i == 0            ? ""
                       : i + 1 < n_names ? ", "
                                         : " or ",
                       names[i]);
    }
    return fail_value(option, value, known);
}

/* What training has names for. */
static ag_status_t store_choice(const ag_option_t *option, const char *value, void *field)
{
    static const char *const zero_stages[] = {"0", "1"}, *const recomputed[] = {"none", "full"};
    static const char *const choices[] = {"on", "off"};
    static const char *const precisions[] = {"f32", "auto", "bf16"}, *const trained[] = {"f32",
                                                                                         "bf16"};
    uint32_t number = 0;
    ag_status_t status;

    switch (option->kind) {
    case AG_OPTION_LR:
        return store_name(option, value, ag_lr_schedule_names, AG_N_LR_SCHEDULES, field);
    case AG_OPTION_ZERO:
        return store_name(option, value, zero_stages, 2, field);
    case AG_OPTION_RECOMPUTE:
        status = store_name(option, value, recomputed, 2, &number);
        *(bool *)field = number == 1;
        return status;
    case AG_OPTION_CHOICE:
        status = store_name(option, value, choices, 2, &number);
        *(ag_choice_t *)field = number == 0 ? AG_CHOICE_ON : AG_CHOICE_OFF;
        return status;
    default: /* training has no auto, inference no bf16, a plan may be of either */
        status = option->kind == AG_OPTION_PRECISION
                     ? store_name(option, value, trained, 2, &number)
                     : store_name(option, value, precisions,
                                  option->kind == AG_OPTION_COMPUTE ? 2 : 3, &number);
        *(ag_compute_t *)field = number == 0 ? AG_COMPUTE_F32 : AG_COMPUTE_AUTO;
        return status;
    }
}

static ag_status_t store_thinking(const ag_option_t *option, const char *value,
                                  ag_chat_thinking_t *field)
{
    static const char *const names[] = {"on", "off"};
    uint32_t number = 0;
    ag_status_t status = store_name(option, value, names, 2, &number);

    *field = number == 0 ? AG_THINKING_ON : AG_THINKING_OFF;
    return status;
}

/* A day of the calendar, written as ISO 8601 has it. */
static bool parse_date(const char *value, ag_date_t *date)
{
    static const unsigned days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int n = 0;

    return strlen(value) == 10 && value[strspn(value, "0123456789-")] == '\0' &&
           sscanf(value, "%4u-%2u-%2u%n", &date->year, &date->month, &date->day, &n) == 3 &&
           n == 10 && date->year >= 1 && date->month >= 1 && date->month <= 12 && date->day >= 1 &&
           date->day <= days[date->month - 1];
}

/* Words of which there are few, and dates. */
static ag_status_t store_word(const ag_option_t *option, const char *value, void *field)
{
    static const char *const efforts[] = {"low", "medium", "high"}, *const forms[] = {"hf", "gguf"};
    uint32_t number;

    switch (option->kind) {
    case AG_OPTION_THINKING:
        return store_thinking(option, value, field);
    case AG_OPTION_DATE:
        return parse_date(value, field) ? AG_OK
                                        : fail_value(option, value, "a date such as 2026-01-31");
    case AG_OPTION_EFFORT:
        *(const char **)field = value;
        return store_name(option, value, efforts, 3, &number);
    default:
        *(const char **)field = value;
        return store_name(option, value, forms, 2, &number);
    }
}

static ag_status_t store_value(const ag_option_t *option, const char *value, ag_options_t *options)
{
    void *field = (char *)options + option->offset;

    switch (option->kind) {
    case AG_OPTION_FILE:
        if (*value == '\0') {
            return ag_fail(AG_ERR_INVALID, "%s is given an empty name: %s", option->name,
                           option->help);
        }
        *(const char **)field = value;
        return AG_OK;
    case AG_OPTION_TEXT:
        *(const char **)field = value;
        return AG_OK;
    case AG_OPTION_FLAG:
        *(bool *)field = true;
        return AG_OK;
    case AG_OPTION_COUNT:
    case AG_OPTION_FEW:
    case AG_OPTION_INDEX:
        return store_whole(option, value, field);
    case AG_OPTION_SEED:
        return parse_whole(value, field) ? AG_OK
                                         : fail_value(option, value, "a whole number below 2^64");
    case AG_OPTION_POSITIVE:
    case AG_OPTION_FROM_0:
    case AG_OPTION_FRACTION:
    case AG_OPTION_PART:
    case AG_OPTION_DECAY:
        return store_real(option, value, field);
    case AG_OPTION_STOP:
        return store_stop(value, options);
    case AG_OPTION_PATHS:
        return store_path(option, value, field);
    case AG_OPTION_LR:
    case AG_OPTION_ZERO:
    case AG_OPTION_RECOMPUTE:
    case AG_OPTION_CHOICE:
    case AG_OPTION_COMPUTE:
    case AG_OPTION_PRECISION:
        return store_choice(option, value, field);
    case AG_OPTION_EITHER:
        options->computes_bf16 = strcmp(value, "bf16") == 0;
        return store_choice(option, value, field);
    case AG_OPTION_THINKING:
    case AG_OPTION_DATE:
    case AG_OPTION_EFFORT:
    case AG_OPTION_FORM:
        return store_word(option, value, field);
    case AG_OPTION_DTYPE:
        return ag_dtype_to_write(value, field) == AG_OK
                   ? AG_OK
                   : ag_fail(AG_ERR_INVALID, "%s %s: %s", option->name, value, ag_error());
    case AG_N_OPTION_KINDS:
        break;
    }
    return AG_OK;
}

static bool is_given(const parser_t *parser, const char *name)
{
    const ag_option_t *option = ag_option_find(parser->options->command, name, strlen(name));

    return option != NULL && parser->given[option - ag_option_table];
}

/* Exactly one of these, which `names` lists for the message. */
static ag_status_t need_one(const parser_t *parser, const char *const *alternatives, int n,
                            const char *names)
{
    const char *first = NULL;

    for (int i = 0; i < n; i++) {
        if (!is_given(parser, alternatives[i])) {
            continue;
        }
        if (first != NULL) {
            return ag_fail(AG_ERR_INVALID, "%s and %s are given: one of %s is needed", first,
                           alternatives[i], names);
        }
        first = alternatives[i];
    }
    return first != NULL ? AG_OK
                         : ag_fail(AG_ERR_INVALID, "argosy %s needs one of %s",
                                   ag_command_names[parser->options->command].name, names);
}

static ag_status_t check_conversion(const parser_t *parser)
{
    const ag_options_t *options = parser->options;
    const char *type = ag_dtype_info(options->type)->name;

    if (options->to == NULL || options->output == NULL) {
        return ag_fail(AG_ERR_INVALID, "argosy convert needs a model, and what to make of it: "
                                       "convert MODEL --to hf FOLDER, or --to gguf FILE");
    }
    if (strcmp(options->to, "hf") == 0 && ag_dtype_info(options->type)->safetensors == NULL) {
        return ag_fail(AG_ERR_INVALID,
                       "--type %s: a Hugging Face folder has f32, bf16 or f16; GGUF has %s", type,
                       type);
    }
    return AG_OK;
}

static ag_status_t check_training(const parser_t *parser)
{
    /* how samples and dialogues become ids, and which of these are learned */
    static const char *const of_text[] = {"--train-on-prompt", "--chat-template", "--thinking",
                                          "--reasoning-effort", "--date"};
    static const char *const sources[] = {"--data", "--tokens"};

    if (parser->options->output == NULL && !parser->options->train.verify_plan &&
        !parser->options->dry_run) {
        return ag_fail(AG_ERR_INVALID, "argosy train needs --output: the folder for the model, its "
                                       "checkpoints and figures");
    }
    for (int i = 0; i < (int)(sizeof(of_text) / sizeof(of_text[0])); i++) {
        if (is_given(parser, "--tokens") && !is_given(parser, "--eval-data") &&
            is_given(parser, of_text[i])) {
            return ag_fail(AG_ERR_INVALID,
                           "%s cannot go with --tokens: ids are learned as they are, each of them",
                           of_text[i]);
        }
    }
    return need_one(parser, sources, 2, "--data, --tokens");
}

static ag_status_t check_input(const parser_t *parser)
{
    static const char *const prompts[] = {"--prompt", "--prompt-file", "--prompts", "--tokens"};
    static const char *const texts[] = {"--text", "--tokens"};
    static const char *const sources[] = {"--text", "--file"};

    switch (parser->options->command) {
    case AG_COMMAND_GENERATE:
        return need_one(parser, prompts, 4, "--prompt, --prompt-file, --prompts, --tokens");
    case AG_COMMAND_EVAL:
        return need_one(parser, texts, 2, "--text, --tokens");
    case AG_COMMAND_TOKENIZE:
        return parser->options->jsonl ? AG_OK
                                      : need_one(parser, sources, 2, "--text, --file, --jsonl");
    case AG_COMMAND_CONVERT:
        return check_conversion(parser);
    case AG_COMMAND_TRAIN:
        return check_training(parser);
    default:
        return AG_OK;
    }
}

static ag_status_t check_options(const parser_t *parser)
{
    ag_command_t command = parser->options->command;

    if (ag_command_names[command].help == NULL) { /* hidden: nothing of a user's */
        return AG_OK;
    }
    if (parser->options->model == NULL && command != AG_COMMAND_BENCH_LIMITS) {
        return ag_fail(AG_ERR_INVALID,
                       "argosy %s needs --model: a GGUF file or a Hugging Face folder",
                       ag_command_names[command].name);
    }
    for (int i = 0; i < ag_n_option_rules; i++) {
        const char *first = ag_option_rules[i].first, *second = ag_option_rules[i].second;

        if ((ag_option_rules[i].commands & 1u << command) != 0 && is_given(parser, first) &&
            is_given(parser, second) != ag_option_rules[i].needs) {
            return ag_fail(AG_ERR_INVALID, "%s %s %s: %s", first,
                           ag_option_rules[i].needs ? "needs" : "cannot go with", second,
                           ag_option_rules[i].why);
        }
    }
    if (parser->options->computes_bf16 && !parser->options->trains) {
        return ag_fail(AG_ERR_INVALID, "--compute bf16 needs --train: inference has auto or f32");
    }
    return check_input(parser);
}

static ag_status_t parse_option(parser_t *parser)
{
    const char *word = parser->argv[parser->at], *equals = strchr(word, '=');
    const char *value = equals != NULL ? equals + 1 : NULL;
    size_t n_chars = equals != NULL ? (size_t)(equals - word) : strlen(word);
    ag_command_t command = parser->options->command;
    const ag_option_t *option = ag_option_find(command, word, n_chars);
    ag_status_t status;

    if (option == NULL) {
        return ag_option_fail_unknown(command, word, n_chars);
    }
    if (!ag_option_is_of(option, command)) {
        return ag_option_fail_foreign(command, option);
    }
    if (option->kind == AG_OPTION_FLAG && value != NULL) {
        return ag_fail(AG_ERR_INVALID, "%s takes no value", option->name);
    }
    if (option->kind != AG_OPTION_FLAG && value == NULL) {
        if (parser->at + 1 >= parser->argc) {
            return ag_fail(AG_ERR_INVALID, "%s needs a value: %s %s", option->name, option->name,
                           option->value);
        }
        value = parser->argv[++parser->at];
        if (option->kind != AG_OPTION_TEXT && option->kind != AG_OPTION_STOP &&
            strncmp(value, "--", 2) == 0 && ag_option_find(command, value, strlen(value)) != NULL) {
            return ag_fail(AG_ERR_INVALID,
                           "%s needs a value, and %s is an option (%s=%s, if it is meant)",
                           option->name, value, option->name, value);
        }
    }
    if (parser->given[option - ag_option_table] && option->kind != AG_OPTION_STOP &&
        option->kind != AG_OPTION_PATHS && option->kind != AG_OPTION_FLAG) {
        return ag_fail(AG_ERR_INVALID, "%s is given twice", option->name);
    }
    parser->given[option - ag_option_table] = true;
    status = store_value(option, value, parser->options);
    while (status == AG_OK && option->kind == AG_OPTION_PATHS && parser->at + 1 < parser->argc &&
           parser->argv[parser->at + 1][0] != '-') {
        status = store_value(option, parser->argv[++parser->at], parser->options);
    }
    return status;
}

bool ag_command_computes(ag_command_t command)
{
    return command == AG_COMMAND_GENERATE || command == AG_COMMAND_EVAL ||
           command == AG_COMMAND_TRAIN || command == AG_COMMAND_VERIFY ||
           command == AG_COMMAND_BENCH_MODEL;
}

bool ag_command_measures(ag_command_t command)
{
    return command == AG_COMMAND_BENCH_LIMITS || command == AG_COMMAND_BENCH_MODEL;
}

/* A command is one word, or two. */
static ag_status_t parse_command(parser_t *parser)
{
    const char *word = parser->argv[1];
    const char *second = parser->argc > 2 ? parser->argv[2] : "";
    char both[64];

    snprintf(both, sizeof(both), "%s %s", word, second);
    for (int c = 1; c < AG_N_COMMANDS; c++) {
        const char *name = ag_command_names[c].name;

        if (strcmp(name, word) == 0 || strcmp(name, both) == 0) {
            parser->options->command = (ag_command_t)c;
            parser->at = strcmp(name, word) == 0 ? 2 : 3;
            return AG_OK;
        }
    }
    if (ag_option_begins_commands(word) &&
        (strcmp(second, "--help") == 0 || strcmp(second, "-h") == 0)) {
        parser->options->help_of = word;
        parser->at = 2;
        return AG_OK;
    }
    return ag_option_fail_command(word);
}

/* Words that are no options: the model and the output of a conversion, in this order. */
static ag_status_t take_path(ag_options_t *options, const char *word)
{
    const char **path_p = options->model == NULL ? &options->model : &options->output;

    if (options->command != AG_COMMAND_CONVERT || *path_p != NULL || *word == '\0') {
        return ag_fail(AG_ERR_INVALID, "\"%s\" is not understood: options begin with --", word);
    }
    *path_p = word;
    return AG_OK;
}

/* What holds without the options, and what the plan must know of. */
static void fill_training(bool compute_given, ag_options_t *options)
{
    enum { DEFAULT_SEQUENCE_TOKENS = 512 };

    options->trains = true;
    options->plan.compute = compute_given ? options->plan.compute : AG_COMPUTE_F32;
    if (options->plan.sequence_tokens == 0) {
        options->plan.sequence_tokens = DEFAULT_SEQUENCE_TOKENS;
    }
}

ag_status_t ag_options_parse(int argc, char **argv, ag_options_t *options)
{
    parser_t parser = {.argc = argc, .argv = argv, .at = 1, .options = options};
    ag_status_t status = AG_OK;

    *options = (ag_options_t){.max_tokens = 256,
                              .prompt_tokens = 512,
                              .gen_tokens = 128,
                              .train = {.lr = 3e-4,
                                        .beta1 = 0.9,
                                        .beta2 = 0.95,
                                        .eps = 1e-8,
                                        .weight_decay = 0.1,
                                        .clip_grad = 1}};
    if (argc < 2) {
        return ag_option_fail_command("");
    }
    if (argv[1][0] != '-') {
        status = parse_command(&parser);
    }
    for (; parser.at < argc && status == AG_OK; parser.at++) {
        bool is_option = argv[parser.at][0] == '-' && argv[parser.at][1] != '\0';

        status = is_option ? parse_option(&parser) : take_path(options, argv[parser.at]);
    }
    if (status != AG_OK || options->help || options->version) {
        return status;
    }
    options->rank_given = is_given(&parser, "--rank");
    options->max_tokens_given = is_given(&parser, "--max-tokens");
    options->type_given = is_given(&parser, "--type");
    options->tokens_given = is_given(&parser, "--tokens");
    options->seed_given = is_given(&parser, "--seed");
    if (options->command == AG_COMMAND_TRAIN || options->trains) {
        fill_training(is_given(&parser, "--compute"), options);
    }
    return check_options(&parser);
}
