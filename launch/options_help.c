/* The help, and errors that say what was meant. */
#include "launch/options_priv.h"

#include <string.h>

#include "runtime/base/line.h"

bool ag_option_is_of(const ag_option_t *option, ag_command_t command)
{
    return (option->commands & 1u << command) != 0;
}

static bool is_first_word(const char *word, ag_command_t command)
{
    size_t n_chars = strlen(word);

    return n_chars > 0 && strncmp(ag_command_names[command].name, word, n_chars) == 0 &&
           ag_command_names[command].name[n_chars] == ' ';
}

/* @param first  NULL: all commands. */
static void list_commands(const char *first, FILE *file)
{
    for (int c = 1; c < AG_N_COMMANDS; c++) {
        if (ag_command_names[c].help != NULL &&
            (first == NULL || is_first_word(first, (ag_command_t)c))) {
            fprintf(file, "  %-13s %s\n", ag_command_names[c].name, ag_command_names[c].help);
        }
    }
}

static void help_of_several(const char *first, FILE *file)
{
    if (first != NULL) {
        fprintf(file, "argosy %s COMMAND [OPTION]..., one of\n\n", first);
    } else {
        fprintf(file, "argosy: one language model across the machines you have\n\n"
                      "  argosy COMMAND [OPTION]...          on one machine\n"
                      "  mpirun -n 2 argosy COMMAND --tp 2   on several ranks\n\n");
    }
    list_commands(first, file);
    if (first != NULL) {
        fprintf(file, "\nargosy %s COMMAND --help lists its options.\n", first);
    } else {
        fprintf(file, "\nargosy COMMAND --help lists its options, argosy --version tells the "
                      "version.\n");
    }
}

void ag_options_help(ag_command_t command, const char *first, FILE *file)
{
    if (command == AG_COMMAND_NONE) {
        help_of_several(first, file);
        return;
    }
    fprintf(file, "argosy %s: %s\n\n", ag_command_names[command].name,
            ag_command_names[command].help != NULL ? ag_command_names[command].help : "");
    for (int i = 0; i < ag_n_options; i++) {
        char left[48];

        if (!ag_option_is_of(&ag_option_table[i], command) || ag_option_table[i].help == NULL) {
            continue;
        }
        snprintf(left, sizeof(left), "%s %s", ag_option_table[i].name,
                 ag_option_table[i].value != NULL ? ag_option_table[i].value : "");
        fprintf(file, "  %-25s %s\n", left, ag_option_table[i].help);
        for (int j = 0; j < ag_n_option_aliases; j++) {
            if (strcmp(ag_option_aliases[j].name, ag_option_table[i].name) == 0) {
                fprintf(file, "  %-25s also %s\n", "", ag_option_aliases[j].alias);
            }
        }
    }
    fprintf(file,
            "\nIn brackets: what holds without the option. --option=value is understood too.\n");
}

static bool same_word(const char *name, const char *word, size_t n_chars)
{
    return strncmp(name, word, n_chars) == 0 && name[n_chars] == '\0';
}

const ag_option_t *ag_option_find(ag_command_t command, const char *word, size_t n_chars)
{
    const ag_option_t *other = NULL;

    for (int i = 0; i < ag_n_option_aliases; i++) {
        if (same_word(ag_option_aliases[i].alias, word, n_chars)) {
            word = ag_option_aliases[i].name;
            n_chars = strlen(word);
        }
    }
    for (int i = 0; i < ag_n_options; i++) {
        if (same_word(ag_option_table[i].name, word, n_chars)) {
            if (ag_option_is_of(&ag_option_table[i], command)) {
                return &ag_option_table[i];
            }
            other = &ag_option_table[i];
        }
    }
    return other;
}

/* Levenshtein's distance, for words as short as options. */
static size_t distance(const char *a, size_t n_a, const char *b)
{
    enum { MOST = 48 };
    size_t row[MOST + 1], n_b = strlen(b);

    if (n_a > MOST || n_b > MOST) {
        return MOST;
    }
    for (size_t j = 0; j <= n_b; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            size_t least = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

            diagonal = row[j];
            row[j] = replaced < least ? replaced : least;
        }
    }
    return row[n_b];
}

/* "a" and "b" to "a, b" */
static void add_word(char *list, size_t n_bytes, const char *word)
{
    ag_line_append(list, n_bytes, "%s%s", list[0] != '\0' ? ", " : "", word);
}

/* Keep the candidate that is nearer to the word than what there was, and near at all. */
static void consider(const char *word, size_t n_chars, const char *candidate, size_t *least,
                     const char **nearest)
{
    size_t d = distance(word, n_chars, candidate);

    if (d < *least && d <= 1 + strlen(candidate) / 4) {
        *least = d;
        *nearest = candidate;
    }
}

ag_status_t ag_option_fail_unknown(ag_command_t command, const char *word, size_t n_chars)
{
    const char *nearest = NULL;
    size_t least = SIZE_MAX;

    for (int i = 0; i < ag_n_options; i++) {
        if (ag_option_is_of(&ag_option_table[i], command) && ag_option_table[i].help != NULL) {
            consider(word, n_chars, ag_option_table[i].name, &least, &nearest);
        }
    }
    for (int i = 0; i < ag_n_option_aliases; i++) {
        const char *name = ag_option_aliases[i].name;

        if (ag_option_is_of(ag_option_find(command, name, strlen(name)), command)) {
            consider(word, n_chars, ag_option_aliases[i].alias, &least, &nearest);
        }
    }
    if (nearest != NULL) {
        return ag_fail(AG_ERR_INVALID, "argosy%s%s has no option %.*s: did you mean %s?",
                       command != AG_COMMAND_NONE ? " " : "", ag_command_names[command].name,
                       (int)n_chars, word, nearest);
    }
    if (command == AG_COMMAND_NONE) {
        return ag_fail(AG_ERR_INVALID, "a command is needed before %.*s: argosy --help says more",
                       (int)n_chars, word);
    }
    return ag_fail(AG_ERR_INVALID, "argosy %s has no option %.*s: argosy %s --help lists them",
                   ag_command_names[command].name, (int)n_chars, word,
                   ag_command_names[command].name);
}

ag_status_t ag_option_fail_foreign(ag_command_t command, const ag_option_t *option)
{
    char owners[96] = "";

    for (int c = 1; c < AG_N_COMMANDS; c++) {
        for (int i = 0; i < ag_n_options; i++) {
            if (strcmp(ag_option_table[i].name, option->name) == 0 &&
                ag_option_is_of(&ag_option_table[i], (ag_command_t)c) &&
                ag_command_names[c].help != NULL) {
                add_word(owners, sizeof(owners), ag_command_names[c].name);
            }
        }
    }
    if (command == AG_COMMAND_NONE) {
        return ag_fail(AG_ERR_INVALID, "a command is needed before %s: %s", option->name, owners);
    }
    return ag_fail(AG_ERR_INVALID, "argosy %s has no option %s, which is for %s",
                   ag_command_names[command].name, option->name, owners);
}

const char *ag_options_command_name(ag_command_t command)
{
    return command < AG_N_COMMANDS ? ag_command_names[command].name : "?";
}

bool ag_option_begins_commands(const char *word)
{
    bool begins = false;

    for (int c = 1; c < AG_N_COMMANDS; c++) {
        begins |= is_first_word(word, (ag_command_t)c);
    }
    return begins;
}

ag_status_t ag_option_fail_command(const char *word)
{
    char known[128] = "";
    const char *nearest = NULL;
    size_t least = SIZE_MAX;

    for (int c = 1; c < AG_N_COMMANDS; c++) {
        if (is_first_word(word, (ag_command_t)c)) {
            add_word(known, sizeof(known), ag_command_names[c].name + strlen(word) + 1);
        }
    }
    if (known[0] != '\0') {
        return ag_fail(AG_ERR_INVALID, "argosy %s needs one of %s behind it", word, known);
    }
    for (int c = 1; c < AG_N_COMMANDS; c++) {
        if (ag_command_names[c].help != NULL) {
            consider(word, strlen(word), ag_command_names[c].name, &least, &nearest);
            add_word(known, sizeof(known), ag_command_names[c].name);
        }
    }
    if (word[0] == '\0') {
        return ag_fail(AG_ERR_INVALID, "a command is needed (%s): argosy --help says more", known);
    }
    if (nearest != NULL) {
        return ag_fail(AG_ERR_INVALID, "argosy has no command %s: did you mean %s?", word, nearest);
    }
    return ag_fail(AG_ERR_INVALID, "argosy has no command %s (known: %s)", word, known);
}
