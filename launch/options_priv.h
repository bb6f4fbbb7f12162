/* The table of options, and what parsing and helping need of it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "launch/options.h"

/* What a value is. Each stands for one field type and one range. */
typedef enum ag_option_kind {
    AG_OPTION_TEXT,      /* const char * */
    AG_OPTION_FILE,      /* const char *, not empty */
    AG_OPTION_FLAG,      /* bool */
    AG_OPTION_COUNT,     /* uint32_t, from 1 */
    AG_OPTION_FEW,       /* uint32_t, from 1 to 4096 */
    AG_OPTION_INDEX,     /* uint32_t, from 0 */
    AG_OPTION_SEED,      /* uint64_t */
    AG_OPTION_POSITIVE,  /* double, above 0 */
    AG_OPTION_FROM_0,    /* double, at least 0 */
    AG_OPTION_FRACTION,  /* double, above 0 and at most 1 */
    AG_OPTION_PART,      /* double, from 0 to 1 */
    AG_OPTION_DECAY,     /* double, from 0 to below 1, as a float too */
    AG_OPTION_STOP,      /* appended to stops */
    AG_OPTION_PATHS,     /* ag_paths_t: this word and those behind it that are no options */
    AG_OPTION_LR,        /* uint32_t: ag_lr_schedule_t by its name */
    AG_OPTION_ZERO,      /* uint32_t, 0 or 1 */
    AG_OPTION_RECOMPUTE, /* bool: full or none */
    AG_OPTION_CHOICE,    /* ag_choice_t: on or off */
    AG_OPTION_COMPUTE,   /* ag_compute_t by its name */
    AG_OPTION_PRECISION, /* the same, of training */
    AG_OPTION_EITHER,    /* the same, of a plan of whichever */
    AG_OPTION_FORM,      /* const char *: hf or gguf */
    AG_OPTION_THINKING,  /* ag_chat_thinking_t: on or off */
    AG_OPTION_DATE,      /* ag_date_t */
    AG_OPTION_EFFORT,    /* const char *: low, medium or high */
    AG_OPTION_DTYPE,     /* ag_dtype_t by its name */
    AG_N_OPTION_KINDS,
} ag_option_kind_t;

typedef struct ag_option {
    const char *name;  /* with its dashes */
    const char *value; /* what stands for the value in the help; NULL: none */
    ag_option_kind_t kind;
    size_t offset;     /* of the field in ag_options_t */
    unsigned commands; /* a bit for each command that has it */
    const char *help;  /* NULL: not shown; what holds without the option stands in brackets */
} ag_option_t;

typedef struct ag_option_alias {
    const char *name, *alias;
} ag_option_alias_t;

typedef struct ag_command_name {
    const char *name;
    const char *help; /* NULL: hidden */
} ag_command_name_t;

/* Two options of a command: the first with the second is a contradiction, or nothing without it. */
typedef struct ag_option_rule {
    unsigned commands;
    bool needs; /* the first needs the second; else it cannot go with it */
    const char *first, *second, *why;
} ag_option_rule_t;

extern const ag_option_t ag_option_table[];
extern const int ag_n_options;

enum { AG_MOST_OPTIONS = 160, AG_MOST_COMMAND_OPTIONS = 60 };
extern const ag_option_alias_t ag_option_aliases[];
extern const int ag_n_option_aliases;
extern const ag_option_rule_t ag_option_rules[];
extern const int ag_n_option_rules;
extern const ag_command_name_t ag_command_names[AG_N_COMMANDS];

bool ag_option_is_of(const ag_option_t *option, ag_command_t command);

/** An option by name or alias; another command's where this one has none of that name; or NULL. */
const ag_option_t *ag_option_find(ag_command_t command, const char *word, size_t n_chars);

/* Errors that say what was meant. */
ag_status_t ag_option_fail_unknown(ag_command_t command, const char *word, size_t n_chars);
ag_status_t ag_option_fail_foreign(ag_command_t command, const ag_option_t *option);
ag_status_t ag_option_fail_command(const char *word);

/** Is it the first word of commands of two words? */
bool ag_option_begins_commands(const char *word);
