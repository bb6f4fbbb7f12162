/* The command line: one table, one line per option. Options only fill this struct, and the plan. */
#pragma once

#include <stdio.h>

#include "parallel/plan/plan.h"
#include "runtime/model/sampling.h"
#include "runtime/text/chat.h"

typedef enum ag_command {
    AG_COMMAND_NONE,
    AG_COMMAND_GENERATE,
    AG_COMMAND_EVAL,
    AG_COMMAND_TOKENIZE,
    AG_COMMAND_CONVERT,
    AG_COMMAND_TRAIN,
    AG_COMMAND_VERIFY,
    AG_COMMAND_PLAN,
    AG_COMMAND_SHOW,
    AG_COMMAND_BENCH_LIMITS,
    AG_COMMAND_BENCH_MODEL,
    AG_COMMAND_MEASURE_PROCESS, /* hidden: the memory of a process that has done nothing yet */
    AG_COMMAND_MEASURE_RATES,   /* hidden: the machine's limits, measured in a process of its own */
    AG_N_COMMANDS,
} ag_command_t;

enum { AG_MAX_STOPS = 16, AG_MAX_PATHS = 256 };

/* Files, in the order in which they were given. */
typedef struct ag_paths {
    const char *items[AG_MAX_PATHS];
    uint32_t n_items;
} ag_paths_t;

/* Of training alone; the rest of it is the plan's. */
typedef struct ag_train_settings {
    ag_paths_t data, eval_data;
    uint32_t steps, epochs; /* 0: not given */
    uint32_t save_steps, eval_steps, warmup_steps;
    double lr;                                         /* 3e-4 */
    double beta1, beta2, eps, weight_decay, clip_grad; /* 0.9, 0.95, 1e-8, 0.1, 1 */
    uint32_t lr_schedule;                              /* ag_lr_schedule_t */
    uint64_t seed;
    double aux_loss, z_loss;
    const char *save_grads;
    bool resume, train_on_prompt, verify_plan;
} ag_train_settings_t;

/* As given; NULL, 0 and false are "not given" unless a default is named. Texts are borrowed from
 * argv. */
typedef struct ag_options {
    ag_command_t command;
    bool help;           /* print the command's help and leave */
    const char *help_of; /* with it: of all commands that begin with this word; NULL: of one, or of
                            the program */
    bool version;
    const char *model, *prompt, *prompt_file, *prompts, *system_prompt, *tokens, *text, *file,
        *logits;
    const char *plan_file, *against, *trace, *isa, *dir;
    const char *to;     /* of convert: hf or gguf */
    const char *output; /* what convert and train make */
    ag_dtype_t type;
    double bound;                       /* relative */
    uint32_t max_tokens;                /* 256 */
    uint32_t prompt_tokens, gen_tokens; /* 512, 128 */
    uint32_t window, threads;
    uint32_t rank;
    bool rank_given, max_tokens_given, type_given, tokens_given, seed_given;
    ag_sampling_t sampling;
    ag_chat_opts_t chat_opts; /* the date: none, unless --date says one */
    const char *stops[AG_MAX_STOPS];
    uint32_t n_stops;
    bool ignore_eos, chat, json, jsonl, no_special, decode, dry_run, renew_limits, with_mpi;
    ag_plan_opts_t plan; /* context_tokens is --context */
    bool trains;         /* the command, or the plan that it is asked for */
    bool computes_bf16;  /* a plan is asked for with --compute bf16, as training has it */
    ag_train_settings_t train;
} ag_options_t;

/** @return AG_OK; AG_ERR_INVALID: one line that names the option and what would do. */
ag_status_t ag_options_parse(int argc, char **argv, ag_options_t *options);

/** Does it run a model? */
bool ag_command_computes(ag_command_t command);

/** Does it measure, limits anew included, and deal with no text? */
bool ag_command_measures(ag_command_t command);

/** As it is spelled on the command line. */
const char *ag_options_command_name(ag_command_t command);

/**
 * The help of a command, or of the program for AG_COMMAND_NONE.
 * @param first  of AG_COMMAND_NONE: only the commands of two words with this as their first; NULL.
 */
void ag_options_help(ag_command_t command, const char *first, FILE *file);
