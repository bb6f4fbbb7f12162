#include "runtime/text/normalize_priv.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/quote.h"
#include "runtime/text/charsmap_priv.h"
#include "runtime/text/regex_priv.h"
#include "runtime/text/unicode_priv.h"

typedef struct own_step {
    ag_normal_step_t step; /* its texts are its own */
    ag_regex_t *regex;     /* of REPLACE */
} own_step_t;

struct ag_normalizer {
    char *path; /* of the file that has it */
    uint64_t fingerprint;
    size_t n_steps;
    own_step_t own[AG_MOST_NORMAL_STEPS];
    ag_normal_step_t steps[AG_MOST_NORMAL_STEPS]; /* the same, for others to look at */
};

/*
 * What a text may become, so that no file takes all memory (a few letters, each replaced by a long
 * text, whose letters are replaced again, and so on). Of known normalizers the most that comes of a
 * byte is 14: U+FDFA's 3 are 33 by NFKD, and 39 where spaces are U+2581.
 */
enum {
    MOST_GROWTH = 64,         /* bytes for each that the text had */
    MOST_CONTENT_BYTES = 256, /* and so many more; of what a step puts at one place, too */
};

typedef struct work {
    ag_array_t *codes; /* room for steps that need it */
    size_t most_bytes; /* a step may stop behind as many */
    ag_array_t *out;
} work_t;

/* A step makes of a text another, or leaves it: then nothing is appended to `out`. */
typedef ag_status_t (*step_fn_t)(const own_step_t *own, const char *text, size_t n_bytes,
                                 bool *changed_p, const work_t *work);

static ag_status_t form(const own_step_t *own, const char *text, size_t n_bytes, bool *changed_p,
                        const work_t *work)
{
    ag_unicode_form_t to = (ag_unicode_form_t)own->step.kind;

    *changed_p = !ag_unicode_is_formed(to, text, n_bytes);
    return *changed_p ? ag_unicode_form(to, text, n_bytes, work->codes, work->out) : AG_OK;
}

static ag_status_t lower(const own_step_t *own, const char *text, size_t n_bytes, bool *changed_p,
                         const work_t *work)
{
    (void)own;
    *changed_p = true;
    return ag_unicode_lower(text, n_bytes, work->out);
}

static ag_status_t strip(const own_step_t *own, const char *text, size_t n_bytes, bool *changed_p,
                         const work_t *work)
{
    size_t begin = 0, end = n_bytes, n;

    while (own->step.left && (n = ag_unicode_space_at(text + begin, end - begin)) > 0) {
        begin += n;
    }
    while (own->step.right && (n = ag_unicode_space_before(text, begin, end)) > 0) {
        end -= n;
    }
    *changed_p = end - begin < n_bytes;
    return *changed_p ? ag_array_append(work->out, text + begin, end - begin) : AG_OK;
}

static ag_status_t replace(const own_step_t *own, const char *text, size_t n_bytes, bool *changed_p,
                           const work_t *work)
{
    ag_array_t *out = work->out;
    size_t done = 0, found[2];
    ag_regex_search_t *search;
    bool more = true;
    ag_status_t status = ag_regex_search_create(&search);

    if (status != AG_OK) {
        return status;
    }
    while (status == AG_OK && done < n_bytes && out->n_items <= work->most_bytes) {
        status = ag_regex_next(own->regex, search, text, n_bytes, done, found, &more);
        if (status != AG_OK || !more) {
            break;
        }
        *changed_p = true;
        status = ag_array_append(out, text + done, found[0] - done);
        if (status == AG_OK) {
            status = ag_array_append(out, own->step.content, own->step.n_content);
        }
        done = found[1];
    }
    ag_regex_search_destroy(search);
    return status == AG_OK && *changed_p ? ag_array_append(out, text + done, n_bytes - done)
                                         : status;
}

static ag_status_t prepend(const own_step_t *own, const char *text, size_t n_bytes, bool *changed_p,
                           const work_t *work)
{
    ag_status_t status = ag_array_append(work->out, own->step.content, own->step.n_content);

    *changed_p = true;
    return status == AG_OK ? ag_array_append(work->out, text, n_bytes) : status;
}

static ag_status_t map(const own_step_t *own, const char *text, size_t n_bytes, bool *changed_p,
                       const work_t *work)
{
    *changed_p = true;
    return own->step.kind == AG_NORMAL_CHARSMAP
               ? ag_charsmap_apply(own->step.content, own->step.n_content, text, n_bytes,
                                   work->most_bytes, work->out)
               : ag_charsmap_apply_by_char(own->step.content, own->step.n_content, text, n_bytes,
                                           work->most_bytes, work->out);
}

static const step_fn_t step_fns[] = {
    [AG_NORMAL_NFC] = form,        [AG_NORMAL_NFD] = form,
    [AG_NORMAL_NFKC] = form,       [AG_NORMAL_NFKD] = form,
    [AG_NORMAL_LOWERCASE] = lower, [AG_NORMAL_STRIP] = strip,
    [AG_NORMAL_REPLACE] = replace, [AG_NORMAL_PREPEND] = prepend,
    [AG_NORMAL_CHARSMAP] = map,    [AG_NORMAL_CHARSMAP_BY_CHAR] = map,
};

static ag_status_t copy_text(const char *from, size_t n_bytes, const char **copy_p)
{
    char *copy = NULL;

    if (from != NULL) {
        copy = malloc(n_bytes + 1);
        if (copy == NULL) {
            return ag_fail_nomem("reading a normalizer", n_bytes + 1);
        }
        memcpy(copy, from, n_bytes);
        copy[n_bytes] = '\0';
    }
    *copy_p = copy;
    return AG_OK;
}

const char *ag_normal_kind_name(ag_normal_kind_t kind)
{
    static const char *const names[] = {
        [AG_NORMAL_NFC] = "NFC",
        [AG_NORMAL_NFD] = "NFD",
        [AG_NORMAL_NFKC] = "NFKC",
        [AG_NORMAL_NFKD] = "NFKD",
        [AG_NORMAL_LOWERCASE] = "Lowercase",
        [AG_NORMAL_STRIP] = "Strip",
        [AG_NORMAL_REPLACE] = "Replace",
        [AG_NORMAL_PREPEND] = "Prepend",
        [AG_NORMAL_CHARSMAP] = "Precompiled",
        [AG_NORMAL_CHARSMAP_BY_CHAR] = "Precompiled",
    };

    return names[kind];
}

/* Of places where nothing is: what Hugging Face's tokenizers replace there they count as a letter
 * that was before, so that words are of other letters than the normalized text's, or they fail. */
static ag_status_t check_replace(const own_step_t *own)
{
    return ag_regex_may_be_empty(own->regex)
               ? ag_fail(AG_ERR_UNSUPPORTED,
                         "the expression \"%s\" may match where there is no text, and what words "
                         "are made of that is not known",
                         ag_quote_string(own->step.pattern).text)
               : AG_OK;
}

static ag_status_t copy_step(const ag_normal_step_t *step, own_step_t *own)
{
    ag_status_t status;

    own->step = *step;
    own->step.content = NULL;
    own->step.pattern = NULL;
    if ((step->kind == AG_NORMAL_REPLACE || step->kind == AG_NORMAL_PREPEND) &&
        step->n_content > MOST_CONTENT_BYTES) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "it puts %zu bytes at one place, more than any known: %d", step->n_content,
                       MOST_CONTENT_BYTES);
    }
    status = copy_text(step->content, step->n_content, &own->step.content);
    if (status == AG_OK && step->pattern != NULL) {
        status = copy_text(step->pattern, strlen(step->pattern), &own->step.pattern);
    }
    if (status == AG_OK && step->kind == AG_NORMAL_REPLACE) {
        status = ag_regex_create(step->pattern, step->literal, &own->regex);
        status = status == AG_OK ? check_replace(own) : status;
    }
    if (status == AG_OK &&
        (step->kind == AG_NORMAL_CHARSMAP || step->kind == AG_NORMAL_CHARSMAP_BY_CHAR)) {
        status = ag_charsmap_check(step->content, step->n_content);
    }
    return status;
}

static uint64_t hash_step(uint64_t hash, const ag_normal_step_t *step)
{
    const unsigned char how[] = {(unsigned char)step->kind, step->literal, step->left, step->right};
    const char *pattern = step->pattern != NULL ? step->pattern : "";

    hash = ag_hash_bytes(hash, how, sizeof(how));
    hash = ag_hash_bytes(hash, pattern, strlen(pattern) + 1);
    hash = ag_hash_bytes(hash, &step->n_content, sizeof(step->n_content));
    return ag_hash_bytes(hash, step->content, step->n_content);
}

ag_status_t ag_normalizer_create(const char *path, const ag_normal_step_t *steps, size_t n,
                                 ag_normalizer_t **normalizer_p)
{
    ag_normalizer_t *normalizer = calloc(1, sizeof(*normalizer));
    ag_status_t status = AG_OK;

    if (normalizer == NULL || (normalizer->path = strdup(path)) == NULL) {
        free(normalizer);
        return ag_fail_nomem("making a normalizer", sizeof(*normalizer));
    }
    if (n > AG_MOST_NORMAL_STEPS) {
        ag_normalizer_destroy(normalizer);
        return ag_fail(AG_ERR_UNSUPPORTED, "%s: a normalizer of %zu steps (at most %d)", path, n,
                       AG_MOST_NORMAL_STEPS);
    }
    normalizer->fingerprint = AG_HASH_SEED;
    for (; normalizer->n_steps < n && status == AG_OK; normalizer->n_steps++) {
        own_step_t *own = &normalizer->own[normalizer->n_steps];

        status = copy_step(&steps[normalizer->n_steps], own);
        normalizer->steps[normalizer->n_steps] = own->step;
        normalizer->fingerprint = hash_step(normalizer->fingerprint, &steps[normalizer->n_steps]);
    }
    if (status != AG_OK) {
        size_t at = normalizer->n_steps;

        ag_normalizer_destroy(normalizer);
        return ag_fail_context(status, "%s: step %zu of the normalizer, %s", path, at,
                               ag_normal_kind_name(steps[at - 1].kind));
    }
    *normalizer_p = normalizer;
    return AG_OK;
}

void ag_normalizer_destroy(ag_normalizer_t *normalizer)
{
    if (normalizer != NULL) {
        for (size_t i = 0; i < normalizer->n_steps; i++) {
            free((char *)normalizer->own[i].step.pattern);
            free((char *)normalizer->own[i].step.content);
            ag_regex_destroy(normalizer->own[i].regex);
        }
        free(normalizer->path);
        free(normalizer);
    }
}

const ag_normal_step_t *ag_normalizer_steps(const ag_normalizer_t *normalizer, size_t *n_p)
{
    static const ag_normal_step_t none;

    *n_p = normalizer != NULL ? normalizer->n_steps : 0;
    return normalizer != NULL ? normalizer->steps : &none;
}

size_t ag_normalizer_bytes(const ag_normalizer_t *normalizer)
{
    size_t n_bytes = 0;

    for (size_t i = 0; normalizer != NULL && i < normalizer->n_steps; i++) {
        const own_step_t *own = &normalizer->own[i];

        n_bytes += own->step.n_content + (own->regex != NULL ? ag_regex_bytes(own->regex) : 0);
    }
    return normalizer != NULL ? n_bytes + sizeof(*normalizer) : 0;
}

uint64_t ag_normalizer_fingerprint(const ag_normalizer_t *normalizer)
{
    return normalizer != NULL ? normalizer->fingerprint : AG_HASH_SEED;
}

void ag_normalized_fini(ag_normalized_t *normalized)
{
    ag_array_fini(&normalized->rooms[0]);
    ag_array_fini(&normalized->rooms[1]);
    ag_array_fini(&normalized->codes);
}

uint64_t ag_normalized_bytes(const ag_normalized_t *normalized)
{
    return normalized->rooms[0].capacity + normalized->rooms[1].capacity +
           normalized->codes.capacity * sizeof(int32_t);
}

ag_status_t ag_normalize(const ag_normalizer_t *normalizer, const char *text, size_t n_bytes,
                         bool continues, ag_normalized_t *normalized)
{
    size_t room = 0, most_bytes = MOST_GROWTH * n_bytes + MOST_CONTENT_BYTES;

    normalized->text = text;
    normalized->n_bytes = n_bytes;
    for (size_t i = 0; normalizer != NULL && i < normalizer->n_steps; i++) {
        const own_step_t *own = &normalizer->own[i];
        ag_array_t *out = &normalized->rooms[room];
        work_t work = {.codes = &normalized->codes, .most_bytes = most_bytes, .out = out};
        bool changed = false;
        ag_status_t status;

        if (normalized->n_bytes == 0 || (continues && own->step.kind == AG_NORMAL_PREPEND)) {
            continue;
        }
        out->n_items = 0;
        status =
            step_fns[own->step.kind](own, normalized->text, normalized->n_bytes, &changed, &work);
        if (status == AG_OK && out->n_items > most_bytes) {
            status = ag_fail(AG_ERR_UNSUPPORTED,
                             "%s: step %zu of the normalizer, %s, makes of a text of %zu bytes one "
                             "of more than %zu, which no known normalizer does",
                             normalizer->path, i + 1, ag_normal_kind_name(own->step.kind), n_bytes,
                             most_bytes);
        }
        if (status != AG_OK) {
            return status;
        }
        if (changed) {
            normalized->text = out->n_items > 0 ? out->items : "";
            normalized->n_bytes = out->n_items;
            room = 1 - room;
        }
    }
    return AG_OK;
}
