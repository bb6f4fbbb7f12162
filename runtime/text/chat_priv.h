/* What is known of chat templates: how they render (chat_styles.c), how they look (chat_forms.c).
 */
#pragma once

#include "runtime/text/chat.h"
#include "runtime/text/template_priv.h"

/*
 * Marks are the template's own text. In them stand for others:
 *   {bos} {eos}      the tokenizer's tokens of this name, nothing where it has none
 *   {day} {date}     the date as 26 Jul 2024 and as 2024-07-26
 *   {longday}        and as 26 July 2024
 *   {thinking}       /think or /no_think
 *   {effort}         how much the model reasons
 *   {text0} {text1}  what the model's template says at AG_FORM_TEXT
 */
typedef struct ag_chat_marks {
    const char *before; /* content */
    const char *end;    /* behind it; learned with an answer */
    const char *behind; /* and behind that; not learned */
} ag_chat_marks_t;

/* Where a system turn goes. */
typedef enum ag_chat_system {
    AG_SYSTEM_TURN,      /* it is a turn wherever it stands */
    AG_SYSTEM_FIRST,     /* it is one at the beginning, and refused elsewhere */
    AG_SYSTEM_IN_FIRST,  /* the same, but put into the first user turn; its marks stand there */
    AG_SYSTEM_IN_LAST,   /* or into the last message, if that is a user turn; else it is left out */
    AG_SYSTEM_JOINED,    /* all before the dialogue, joined by system.behind */
    AG_SYSTEM_LAST_SAID, /* the last before the dialogue */
    AG_SYSTEM_SWITCHES,  /* at the beginning; there is one in any case; what it says of /think and
                            /no_think switches (SmolLM3), and /system_override leaves it alone */
    AG_SYSTEM_NONE,      /* refused */
} ag_chat_system_t;

/* What of an answer's thoughts (up to </think>) is shown to the model again. */
typedef enum ag_chat_thoughts {
    AG_THOUGHTS_SHOWN,
    AG_THOUGHTS_CUT,         /* none */
    AG_THOUGHTS_CUT_ONCE,    /* none, but for what a second </think> ends */
    AG_THOUGHTS_LAST,        /* those of the last message */
    AG_THOUGHTS_SINCE_ASKED, /* those since the last user turn, and that there are none in the last
                                message (Qwen3) */
} ag_chat_thoughts_t;

enum {
    AG_CHAT_TRIMS_SYSTEM = 1, /* white space at both ends of a content is dropped */
    AG_CHAT_TRIMS_USER = 2,
    AG_CHAT_TRIMS_ANSWER = 4,
    AG_CHAT_TRIMS_ALL = 7,
    AG_CHAT_TRIMS_TURN = 8,      /* of a user turn with what was put into it */
    AG_CHAT_ALTERNATES = 16,     /* user and assistant take turns, the user begins */
    AG_CHAT_SYSTEM_IF_SAID = 32, /* an empty system turn is left out */
    AG_CHAT_ASKS = 128,          /* a user turn has the beginning of an answer at its end, so that
                                    it comes last only where there is none */
    AG_CHAT_HEADS_REPLIES = 256, /* the beginning of an answer, and of its turn, comes behind a user
                                    turn only */
    AG_CHAT_TRIMS_LINES = 512,   /* line ends before an answer are dropped */
    AG_CHAT_ALWAYS_PROMPTS = 64, /* the beginning of an answer comes last, asked for or not */
};

/* How a template renders. Strings that are NULL are empty. */
typedef struct ag_chat_style {
    const char *name;
    const char *sign;      /* stands in such templates, and in few others */
    const char *begin;     /* before all */
    const char *no_system; /* where a dialogue begins without a system turn; nothing where it needs
                              a text that there is none of */
    const char *text, *other_text; /* for {text0} and {text1} where the model's template is not
                                      looked at */
    ag_chat_marks_t system, user, assistant;
    const char *later_system; /* before a system turn that is not the first, if that differs */
    const char *last_end;     /* the end of an answer after which nothing comes, if that differs */
    const char *prompt;       /* the beginning of an answer */
    const char *prompt_off, *prompt_on; /* where thinking is switched; NULL: it cannot be */
    const char *close;                  /* behind all where there is no prompt */
    ag_chat_system_t system_goes;
    ag_chat_thoughts_t thoughts;
    unsigned flags; /* AG_CHAT_* */
} ag_chat_style_t;

typedef enum ag_chat_style_id {
    AG_CHAT_CHATML,
    AG_CHAT_QWEN25,
    AG_CHAT_QWEN3,
    AG_CHAT_QWEN3_THINKING,
    AG_CHAT_QWQ,
    AG_CHAT_LLAMA2,
    AG_CHAT_LLAMA3,
    AG_CHAT_LLAMA3_PROMPTING,
    AG_CHAT_LLAMA31,
    AG_CHAT_LLAMA32,
    AG_CHAT_GEMMA,
    AG_CHAT_GEMMA3,
    AG_CHAT_MISTRAL_V01,
    AG_CHAT_MISTRAL_V02,
    AG_CHAT_MISTRAL_V1,
    AG_CHAT_MISTRAL_V3,
    AG_CHAT_MISTRAL_V3_TEKKEN,
    AG_CHAT_MISTRAL_V7,
    AG_CHAT_MISTRAL_V7_TEKKEN,
    AG_CHAT_MISTRAL_V7_STRICT,
    AG_CHAT_DEVSTRAL,
    AG_CHAT_PHI3,
    AG_CHAT_PHI35,
    AG_CHAT_PHI3_SMALL,
    AG_CHAT_PHI3_OLD,
    AG_CHAT_PHI3_MEDIUM,
    AG_CHAT_PHI4,
    AG_CHAT_PHI4_MINI,
    AG_CHAT_DEEPSEEK2,
    AG_CHAT_DEEPSEEK3,
    AG_CHAT_DEEPSEEK_R1,
    AG_CHAT_DEEPSEEK_R1_OLD,
    AG_CHAT_DEEPSEEK_R1_DISTILL,
    AG_CHAT_DEEPSEEK3_0324,
    AG_CHAT_DEEPSEEK_R1_0528,
    AG_CHAT_DEEPSEEK31,
    AG_CHAT_GPT_OSS,
    AG_CHAT_ZEPHYR,
    AG_CHAT_SMOLLM3,
    AG_N_CHAT_STYLES,
} ag_chat_style_id_t;

extern const ag_chat_style_t ag_chat_styles[AG_N_CHAT_STYLES];

/* A form of template text (template_priv.h) and what it renders like. */
typedef struct ag_chat_form {
    ag_chat_style_id_t style;
    const char *form;
} ag_chat_form_t;

extern const ag_chat_form_t ag_chat_forms[];
extern const size_t ag_n_chat_forms;

struct ag_chat {
    const ag_tokenizer_t *tokenizer;
    const ag_chat_style_t *style;
    ag_chat_opts_t opts;                  /* name: NULL */
    ag_array_t texts[AG_FORM_MOST_TEXTS]; /* char */
    bool has_text;
};
