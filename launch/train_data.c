/* Files to train on, opened and told of. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/train.h"
#include "runtime/base/log.h"

static ag_status_t cache_dir(char *path, size_t n_bytes)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

    if (cache != NULL && cache[0] == '/') {
        snprintf(path, n_bytes, "%s/argosy/data", cache);
    } else if (home != NULL && home[0] == '/') {
        snprintf(path, n_bytes, "%s/.cache/argosy/data", home);
    } else {
        return ag_fail(AG_ERR_INVALID, "neither HOME nor XDG_CACHE_HOME names a folder: texts are "
                                       "tokenized into one of them");
    }
    return AG_OK;
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* What a reader of the figures should know of the data. */
static void tell(const char *what, const ag_dataset_counts_t *counts, uint32_t seq_length)
{
    ag_log(AG_LOG_INFO, "%s: %llu document%s, %llu token%s, %llu row%s of %u%s", what,
           (unsigned long long)counts->documents, plural(counts->documents),
           (unsigned long long)counts->tokens, plural(counts->tokens),
           (unsigned long long)counts->rows, plural(counts->rows), seq_length,
           counts->from_cache ? " (tokenized before)" : "");
    if (counts->cut > 0) {
        ag_log(AG_LOG_WARNING, "longer than --seq-length %u: %llu sample%s, cut by %llu token%s",
               seq_length, (unsigned long long)counts->cut, plural(counts->cut),
               (unsigned long long)counts->cut_tokens, plural(counts->cut_tokens));
    }
    if (counts->without_target > 0) {
        ag_log(AG_LOG_WARNING, "left out, with nothing to learn in it: %llu document%s",
               (unsigned long long)counts->without_target, plural(counts->without_target));
    }
    if (counts->replaced > 0) {
        ag_log(AG_LOG_WARNING, "no UTF-8, and read as U+FFFD: %llu place%s",
               (unsigned long long)counts->replaced, plural(counts->replaced));
    }
}

static ag_status_t open_files(const ag_training_t *training, const ag_paths_t *paths,
                              ag_data_order_t order, ag_team_t *team, ag_dataset_t **dataset_p)
{
    const ag_session_t *session = training->session;
    ag_cancel_t cancel = {.is_asked = ag_session_is_cancelled};
    char dir[4200];
    ag_status_t status = cache_dir(dir, sizeof(dir));

    if (status != AG_OK) {
        return status;
    }
    return ag_dataset_open(
        &(ag_dataset_opts_t){.paths = paths->items,
                             .n_paths = paths->n_items,
                             .tokenizer = session->tokenizer,
                             .chat = session->options->chat_opts,
                             .vocab_size = session->model->spec->vocab,
                             .seq_length = training->seq_length,
                             .seed = session->options->train.seed,
                             .order = order,
                             .train_on_prompt = session->options->train.train_on_prompt,
                             .are_ids = session->options->tokens_given &&
                                        paths == &session->options->train.data,
                             .cache_dir = dir,
                             .team = team,
                             .cancel = &cancel},
        dataset_p);
}

static ag_status_t open_both(ag_training_t *training, ag_team_t *team)
{
    const ag_train_settings_t *settings = &training->session->options->train;
    ag_dataset_counts_t counts;
    ag_status_t status =
        open_files(training, &settings->data, AG_DATA_ORDER_DEFAULT, team, &training->data);

    if (status != AG_OK) {
        return status;
    }
    counts = ag_dataset_counts(training->data);
    tell(settings->data.items[0], &counts, training->seq_length);
    ag_input_count(&training->session->input, ag_dataset_bytes(training->data), 0);
    if (settings->eval_data.n_items == 0) {
        return AG_OK;
    }
    status =
        open_files(training, &settings->eval_data, AG_DATA_IN_ORDER, team, &training->eval_data);
    if (status == AG_OK) {
        counts = ag_dataset_counts(training->eval_data);
        tell(settings->eval_data.items[0], &counts, training->seq_length);
        ag_input_count(&training->session->input,
                       ag_dataset_bytes(training->data) + ag_dataset_bytes(training->eval_data), 0);
    }
    return status;
}

ag_status_t ag_training_open_data(ag_training_t *training)
{
    const ag_session_t *session = training->session;
    ag_team_t *team;
    ag_status_t status = ag_team_create(
        &(ag_team_opts_t){.n_threads = session->ranks[session->net->rank].n_threads}, &team);

    if (status == AG_OK) {
        status = open_both(training, team);
        ag_team_destroy(team);
    }
    return status;
}

ag_status_t ag_training_show_sample(const ag_training_t *training)
{
    enum { MOST_DOCUMENTS = 4 };
    ag_array_t text = AG_ARRAY(char);
    ag_status_t status =
        ag_dataset_show(training->data, ag_dataset_start(training->data), MOST_DOCUMENTS, &text);

    if (status == AG_OK) {
        fprintf(stderr, "the first row; what stands between %s and %s is not learned:\n%.*s\n",
                AG_DATA_MASK_BEGIN, AG_DATA_MASK_END, (int)text.n_items, (const char *)text.items);
    }
    ag_array_fini(&text);
    return status;
}
