#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/utf8.h"
#include "runtime/data/document_priv.h"

enum { WHAT_BYTES = 4200 };

void ag_doc_output_init(ag_doc_output_t *output)
{
    *output = (ag_doc_output_t){.ids = AG_ARRAY(int32_t),
                                .docs = AG_ARRAY(ag_data_doc_t),
                                .text = AG_ARRAY(char),
                                .messages = AG_ARRAY(ag_chat_message_t)};
    ag_chat_text_init(&output->dialogue);
}

void ag_doc_output_fini(ag_doc_output_t *output)
{
    ag_array_fini(&output->ids);
    ag_array_fini(&output->docs);
    ag_array_fini(&output->text);
    ag_array_fini(&output->messages);
    ag_chat_text_fini(&output->dialogue);
}

/* @param first  ids from there on are learned, or are not. */
static ag_status_t mark_ids(const ag_doc_rules_t *rules, const char *what, size_t first,
                            bool learned, ag_doc_output_t *output)
{
    int32_t *ids = output->ids.items;

    for (size_t i = first; i < output->ids.n_items; i++) {
        if ((uint32_t)ids[i] >= rules->vocab_size) {
            return ag_fail(AG_ERR_INVALID, "%s: token %d is beyond the model's vocabulary of %u",
                           what, ids[i], rules->vocab_size);
        }
        ids[i] |= learned ? 0 : AG_DATA_NO_LOSS;
    }
    return AG_OK;
}

/* Text of one document that is learned, or is not. */
static ag_status_t add_segment(const ag_doc_rules_t *rules, const char *what, const char *bytes,
                               size_t n_bytes, unsigned flags, bool learned,
                               ag_doc_output_t *output)
{
    size_t first = output->ids.n_items;
    ag_status_t status = ag_tokenizer_encode(rules->tokenizer, bytes, n_bytes,
                                             AG_TOKEN_SPECIAL | flags, &output->ids, NULL);

    return status == AG_OK ? mark_ids(rules, what, first, learned, output)
                           : ag_fail_context(status, "%s", what);
}

/* Bytes begin .. end - 1 of the dialogue. */
static ag_status_t add_turns(const ag_doc_rules_t *rules, const char *what, size_t begin,
                             size_t end, bool learned, ag_doc_output_t *output)
{
    size_t first = output->ids.n_items;
    ag_status_t status = ag_chat_encode(rules->tokenizer, &output->dialogue, begin, end,
                                        begin > 0 ? AG_TOKEN_CONTINUES : 0, &output->ids, NULL);

    return status == AG_OK ? mark_ids(rules, what, first, learned, output)
                           : ag_fail_context(status, "%s", what);
}

ag_status_t ag_doc_text(const ag_doc_rules_t *rules, const char *what, const char *bytes,
                        size_t n_bytes, bool continues, ag_doc_output_t *output)
{
    unsigned flags = continues ? AG_TOKEN_CONTINUES : 0;
    char *repaired = NULL;
    size_t n_replaced;
    ag_status_t status = AG_OK;

    if (!ag_utf8_valid(bytes, n_bytes)) {
        status = ag_utf8_repair(bytes, n_bytes, &repaired, &n_bytes, &n_replaced);
        if (status != AG_OK) {
            return status;
        }
        output->n_replaced += n_replaced;
        bytes = repaired;
    }
    status = add_segment(rules, what, bytes, n_bytes, flags, true, output);
    free(repaired);
    return status;
}

static ag_status_t begin_document(const ag_doc_rules_t *rules, uint32_t flags,
                                  ag_doc_output_t *output)
{
    ag_data_doc_t doc = {.begin = output->ids.n_items, .flags = flags};
    int32_t bos = ag_tokenizer_bos(rules->tokenizer);
    ag_status_t status = ag_array_append(&output->docs, &doc, 1);

    if (status == AG_OK && bos >= 0) {
        bos |= AG_DATA_NO_LOSS;
        status = ag_array_append(&output->ids, &bos, 1);
    }
    return status;
}

/* A text or a template that begins with a BOS gets no second one. */
static void drop_second_bos(const ag_doc_rules_t *rules, const ag_data_doc_t *doc, ag_array_t *ids)
{
    int32_t *id = AG_ITEMS(ids, int32_t) + doc->begin, bos = ag_tokenizer_bos(rules->tokenizer);
    size_t n = ids->n_items - doc->begin;

    if (bos >= 0 && n >= 2 && ag_data_id(id[1]) == bos) {
        memmove(id + 1, id + 2, (n - 2) * sizeof(*id));
        ids->n_items--;
    }
}

/* @param learned  what came last is, and so is its end; what ends already gets no second EOS. */
static ag_status_t end_document(const ag_doc_rules_t *rules, bool learned, ag_doc_output_t *output)
{
    ag_data_doc_t *doc = AG_ITEMS(&output->docs, ag_data_doc_t) + output->docs.n_items - 1;
    int32_t eos = ag_tokenizer_eos(rules->tokenizer), last;
    const int32_t *ids;
    uint64_t n;

    drop_second_bos(rules, doc, &output->ids);
    ids = output->ids.items;
    n = output->ids.n_items - doc->begin;
    last = n > 0 ? ids[output->ids.n_items - 1] : -1;
    if (eos >= 0 && !(last >= 0 && ag_tokenizer_is_end(rules->tokenizer, last))) {
        ag_status_t status;

        eos |= learned ? 0 : AG_DATA_NO_LOSS;
        status = ag_array_append(&output->ids, &eos, 1);
        if (status != AG_OK) {
            return status;
        }
        ids = output->ids.items;
        n++;
    }
    doc->first_target = UINT32_MAX;
    for (uint64_t i = 1; i < n && i < UINT32_MAX; i++) {
        if (ids[doc->begin + i] >= 0) {
            doc->first_target = (uint32_t)i;
            break;
        }
    }
    return AG_OK;
}

static ag_status_t add_plain(const ag_doc_rules_t *rules, const char *what, const ag_json_t *text,
                             ag_doc_output_t *output)
{
    size_t n_bytes;
    const char *bytes = ag_json_string(text, &n_bytes);
    ag_status_t status;

    if (bytes == NULL) {
        return ag_fail(AG_ERR_FORMAT, "%s: \"text\" is no string", what);
    }
    status = begin_document(rules, 0, output);
    if (status == AG_OK) {
        status = add_segment(rules, what, bytes, n_bytes, 0, true, output);
    }
    return status == AG_OK ? end_document(rules, true, output) : status;
}

static ag_status_t add_sample(const ag_doc_rules_t *rules, const char *what,
                              const ag_json_t *prompt, const ag_json_t *completion,
                              ag_doc_output_t *output)
{
    size_t n_prompt, n_completion;
    const char *asked = ag_json_string(prompt, &n_prompt);
    const char *answered = ag_json_string(completion, &n_completion);
    ag_status_t status;

    if (asked == NULL || answered == NULL) {
        return ag_fail(AG_ERR_FORMAT, "%s: \"prompt\" and \"completion\" are two strings", what);
    }
    status = begin_document(rules, AG_DOC_SAMPLE, output);
    if (status == AG_OK) {
        status = add_segment(rules, what, asked, n_prompt, 0, false, output);
    }
    if (status == AG_OK) {
        status = add_segment(rules, what, answered, n_completion,
                             n_prompt > 0 ? AG_TOKEN_CONTINUES : 0, true, output);
    }
    return status == AG_OK ? end_document(rules, true, output) : status;
}

static ag_status_t read_messages(const char *what, const ag_json_t *list, ag_array_t *messages)
{
    messages->n_items = 0;
    if (ag_json_kind(list) != AG_JSON_ARRAY || ag_json_size(list) == 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: \"messages\" is no list of messages", what);
    }
    for (size_t i = 0; i < ag_json_size(list); i++) {
        const ag_json_t *entry = ag_json_at(list, i);
        ag_chat_message_t message = {.role = ag_json_string(ag_json_get(entry, "role"), NULL)};
        ag_status_t status;

        message.content = ag_json_string(ag_json_get(entry, "content"), &message.content_bytes);
        if (message.role == NULL || message.content == NULL) {
            return ag_fail(AG_ERR_FORMAT,
                           "%s: message %zu has no \"role\" and \"content\" that are strings", what,
                           i);
        }
        status = ag_array_append(messages, &message, 1);
        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}

/* Cut where learning begins and ends, so that ids of a prompt are those that generation sees. */
static ag_status_t add_rendered(const ag_doc_rules_t *rules, const char *what,
                                ag_doc_output_t *output)
{
    const ag_array_t *answers = &output->dialogue.answers;
    size_t at = 0;
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < answers->n_items && status == AG_OK; i++) {
        ag_text_span_t span = AG_ITEMS(answers, ag_text_span_t)[i];

        status = add_turns(rules, what, at, span.begin, false, output);
        if (status == AG_OK) {
            status = add_turns(rules, what, span.begin, span.end, true, output);
        }
        at = span.end;
    }
    return status;
}

static ag_status_t add_dialogue(const ag_doc_rules_t *rules, const char *what,
                                const ag_json_t *list, ag_doc_output_t *output)
{
    const ag_chat_message_t *messages;
    const ag_array_t *answers = &output->dialogue.answers;
    size_t n_messages, end = 0;
    bool answered;
    ag_status_t status = read_messages(what, list, &output->messages);

    if (status != AG_OK) {
        return status;
    }
    if (rules->chat == NULL) {
        return ag_fail(rules->chat_status,
                       "%s: %s: give \"prompt\" and \"completion\", or \"text\"", what,
                       rules->chat_trouble);
    }
    messages = output->messages.items;
    n_messages = output->messages.n_items;
    answered = strcmp(messages[n_messages - 1].role, "assistant") == 0;
    status = ag_chat_render(rules->chat, messages, n_messages, false, &output->dialogue);
    if (status != AG_OK) {
        return ag_fail_context(status == AG_ERR_INVALID ? AG_ERR_FORMAT : status, "%s", what);
    }
    status = begin_document(rules, AG_DOC_SAMPLE, output);
    if (status == AG_OK) {
        status = add_rendered(rules, what, output);
    }
    if (answers->n_items > 0) {
        end = AG_ITEMS(answers, ag_text_span_t)[answers->n_items - 1].end;
    }
    if (status == AG_OK && !answered) { /* what follows a last answer is the line's end only */
        status = add_turns(rules, what, end, output->dialogue.text.n_items, false, output);
    }
    return status == AG_OK ? end_document(rules, answered, output) : status;
}

static ag_status_t add_object(const ag_doc_rules_t *rules, const char *what,
                              const ag_json_t *object, ag_doc_output_t *output)
{
    const ag_json_t *messages = ag_json_get(object, "messages");
    const ag_json_t *prompt = ag_json_get(object, "prompt");
    const ag_json_t *completion = ag_json_get(object, "completion");
    const ag_json_t *text = ag_json_get(object, "text");

    if (messages != NULL) {
        return add_dialogue(rules, what, messages, output);
    }
    if (prompt != NULL && completion != NULL) {
        return add_sample(rules, what, prompt, completion, output);
    }
    if (text != NULL) {
        return add_plain(rules, what, text, output);
    }
    return ag_fail(AG_ERR_FORMAT,
                   "%s: no \"text\", no \"prompt\" and \"completion\", no \"messages\" in it",
                   what);
}

/* Text that is no UTF-8, and escapes that are no text, are replaced and counted. */
static ag_status_t mend_line(const char *bytes, size_t n_bytes, ag_doc_output_t *output)
{
    char *repaired;
    size_t n_repaired, n_replaced;
    ag_status_t status;

    output->text.n_items = 0;
    if (ag_utf8_valid(bytes, n_bytes)) {
        status = ag_array_append(&output->text, bytes, n_bytes);
    } else {
        status = ag_utf8_repair(bytes, n_bytes, &repaired, &n_repaired, &n_replaced);
        if (status == AG_OK) {
            output->n_replaced += n_replaced;
            status = ag_array_append(&output->text, repaired, n_repaired);
            free(repaired);
        }
    }
    if (status == AG_OK) {
        output->n_replaced += ag_json_mend_escapes(output->text.items, output->text.n_items);
    }
    return status;
}

ag_status_t ag_doc_line(const ag_doc_rules_t *rules, const char *path, uint64_t line,
                        const char *bytes, size_t n_bytes, ag_doc_output_t *output)
{
    char what[WHAT_BYTES];
    ag_json_t *json;
    size_t at = 0;
    ag_status_t status;

    if (line == 1 && n_bytes >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
        at = 3; /* a byte order mark */
    }
    while (at < n_bytes && (bytes[at] == ' ' || bytes[at] == '\t' || bytes[at] == '\r')) {
        at++;
    }
    if (at == n_bytes) {
        return AG_OK;
    }
    snprintf(what, sizeof(what), "%s:%llu", path, (unsigned long long)line);
    if (bytes[at] != '{') {
        return ag_fail(AG_ERR_FORMAT, "%s: each line is one JSON object, and this is none", what);
    }
    status = mend_line(bytes + at, n_bytes - at, output);
    if (status == AG_OK) {
        status = ag_json_parse_reals(output->text.items, output->text.n_items, what, &json);
    }
    if (status == AG_OK) {
        status = add_object(rules, what, json, output);
        ag_json_destroy(json);
    }
    return status;
}
