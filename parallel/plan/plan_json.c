/* The plan as JSON: DESIGN section 1's form. What is read is checked member by member. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/plan/plan_priv.h"
#include "runtime/base/line.h"

enum { PATH_BYTES = 64 }; /* the longest is "stages[4095].replicas[0].shares[65535]" */

static const char *const compute_names[] = {[AG_COMPUTE_AUTO] = "auto", [AG_COMPUTE_F32] = "f32"};

/* What each object may have, NULL at the end. The last two of a plan are `argosy plan`'s remarks.
 */
static const char *const plan_keys[] = {
    "argosy_plan", "model",          "mode",           "stages",
    "experts",     "compute",        "context_tokens", "batch_tokens",
    "sequences",   "overlap_tokens", "kv_type",        "budgets",
    "train",       "hash",           "predicted",      NULL};
static const char *const model_keys[] = {"spec_hash", "family", NULL};
static const char *const stage_keys[] = {"layers", "replicas", NULL};
static const char *const replica_keys[] = {"ranks", "shares", "tensor_ranks", "micro_batches",
                                           NULL};
static const char *const budget_keys[] = {"dram_bytes", NULL};

static ag_json_t *text_json(const char *text)
{
    return ag_json_new_string(text, strlen(text));
}

static ag_json_t *numbers_json(const uint32_t *numbers, uint32_t n)
{
    ag_json_t *array = ag_json_new_array();

    for (uint32_t i = 0; i < n; i++) {
        ag_json_append(array, ag_json_new_integer(numbers[i]));
    }
    return array;
}

/* [first, end], or a list of such where the stage has several chunks. */
static ag_json_t *layers_json(const ag_plan_t *plan, uint32_t stage)
{
    uint32_t n = ag_plan_chunks(plan);
    ag_json_t *list = n > 1 ? ag_json_new_array() : NULL;

    for (uint32_t i = 0; i < n; i++) {
        ag_layers_t layers = ag_plan_layers(plan, i * plan->n_stages + stage);
        ag_json_t *pair = numbers_json((uint32_t[]){layers.begin, layers.end}, 2);

        if (n == 1) {
            return pair;
        }
        ag_json_append(list, pair);
    }
    return list;
}

static ag_json_t *stage_json(const ag_plan_t *plan, uint32_t number)
{
    const ag_stage_t *stage = &plan->stages[number];
    ag_json_t *json = ag_json_new_object(), *replicas = ag_json_new_array();

    for (uint32_t i = 0; i < stage->n_replicas; i++) {
        const ag_replica_t *replica = &stage->replicas[i];
        ag_json_t *member = ag_json_new_object();

        ag_json_set(member, "ranks", numbers_json(replica->ranks, replica->n_ranks));
        ag_json_set(member, "shares", numbers_json(replica->shares, replica->n_ranks));
        if (replica->tensor_ranks != replica->n_ranks) {
            ag_json_set(member, "tensor_ranks", ag_json_new_integer(replica->tensor_ranks));
        }
        ag_json_set(member, "micro_batches", ag_json_new_integer(replica->micro_batches));
        ag_json_append(replicas, member);
    }
    ag_json_set(json, "layers", layers_json(plan, number));
    ag_json_set(json, "replicas", replicas);
    return json;
}

ag_json_t *ag_plan_to_json(const ag_plan_t *plan)
{
    ag_json_t *json = ag_json_new_object(), *model = ag_json_new_object();
    ag_json_t *stages = ag_json_new_array();

    ag_json_set(model, "spec_hash", text_json(plan->spec_hash));
    ag_json_set(model, "family", text_json(plan->family));
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        ag_json_append(stages, stage_json(plan, s));
    }
    ag_json_set(json, "argosy_plan", ag_json_new_integer(1));
    ag_json_set(json, "model", model);
    ag_json_set(json, "mode", text_json(plan->train.sequence_tokens > 0 ? "train" : "forward"));
    ag_json_set(json, "stages", stages);
    ag_json_set(json, "experts", ag_plan_experts_json(plan));
    ag_json_set(json, "compute", text_json(compute_names[plan->compute]));
    ag_json_set(json, "context_tokens", ag_json_new_integer(plan->context_tokens));
    ag_json_set(json, "batch_tokens", ag_json_new_integer(plan->batch_tokens));
    ag_json_set(json, "sequences", ag_json_new_integer(plan->n_sequences));
    if (plan->overlap_tokens > 0) {
        ag_json_set(json, "overlap_tokens", ag_json_new_integer(plan->overlap_tokens));
    }
    ag_json_set(json, "kv_type", text_json(ag_dtype_info(plan->kv_type)->name));
    if (plan->n_budgets > 0) {
        ag_json_t *budgets = ag_json_new_array();

        for (uint32_t i = 0; i < plan->n_budgets; i++) {
            ag_json_t *budget = ag_json_new_object();

            ag_json_set(budget, "dram_bytes", ag_json_new_integer((int64_t)plan->budget_bytes[i]));
            ag_json_append(budgets, budget);
        }
        ag_json_set(json, "budgets", budgets);
    }
    if (plan->train.sequence_tokens > 0) {
        ag_json_set(json, "train", ag_plan_train_json(plan));
    }
    return json;
}

/* Reading: `what` is the file, `path` the member's place in it. */

ag_status_t ag_plan_read_number(const ag_json_t *json, const char *what, const char *path,
                                int64_t least, int64_t most, uint32_t *number_p)
{
    int64_t number = ag_json_integer(json, -1);

    if (ag_json_kind(json) != AG_JSON_INTEGER || number < least || number > most) {
        return least == most
                   ? ag_fail(AG_ERR_INVALID, "%s: %s must be %lld", what, path, (long long)least)
                   : ag_fail(AG_ERR_INVALID, "%s: %s must be a whole number from %lld to %lld",
                             what, path, (long long)least, (long long)most);
    }
    *number_p = (uint32_t)number;
    return AG_OK;
}

/* What is read here stands in errors later, which are one line: plain ASCII only. */
ag_status_t ag_plan_read_text(const ag_json_t *json, const char *what, const char *path, char *text,
                              size_t n_bytes)
{
    size_t n_chars;
    const char *found = ag_json_string(json, &n_chars);
    bool plain = found != NULL && n_chars > 0 && n_chars < n_bytes;

    for (size_t i = 0; plain && i < n_chars; i++) {
        plain = found[i] > ' ' && found[i] <= '~';
    }
    if (!plain) {
        return ag_fail(AG_ERR_INVALID, "%s: %s must be a word of 1 to %zu plain characters", what,
                       path, n_bytes - 1);
    }
    memcpy(text, found, n_chars + 1);
    return AG_OK;
}

static ag_status_t read_hash(const ag_json_t *json, const char *what, const char *path,
                             char hash[17])
{
    ag_status_t status = ag_plan_read_text(json, what, path, hash, 17);

    if (status == AG_OK && (strlen(hash) != 16 || strspn(hash, "0123456789abcdef") != 16)) {
        return ag_fail(AG_ERR_INVALID, "%s: %s must be 16 hexadecimal digits", what, path);
    }
    return status;
}

/* A list of one number for each of n ranks. */
static ag_status_t read_numbers(const ag_json_t *list, const char *what, const char *path,
                                int64_t most, uint32_t n, uint32_t *numbers)
{
    ag_status_t status = AG_OK;

    if (ag_json_kind(list) != AG_JSON_ARRAY || ag_json_size(list) != n) {
        return ag_fail(AG_ERR_INVALID,
                       "%s: %s must be a list with one number for each of %u rank%s", what, path, n,
                       n == 1 ? "" : "s");
    }
    for (uint32_t i = 0; i < n && status == AG_OK; i++) {
        char member[PATH_BYTES];

        snprintf(member, sizeof(member), "%s[%u]", path, i);
        status = ag_plan_read_number(ag_json_at(list, i), what, member, 0, most, &numbers[i]);
    }
    return status;
}

/* The names that an object's members may have. */
typedef struct known_keys {
    const char *what, *path;
    const char *const *keys; /* NULL at the end */
} known_keys_t;

static ag_status_t check_key(void *arg, const char *key, size_t key_bytes, const ag_json_t *value)
{
    const known_keys_t *known = arg;
    char list[256] = "", quoted[24] = "";

    (void)value;
    for (size_t i = 0; known->keys[i] != NULL; i++) {
        if (strlen(known->keys[i]) == key_bytes && memcmp(known->keys[i], key, key_bytes) == 0) {
            return AG_OK;
        }
        ag_line_append(list, sizeof(list), "%s%s", i > 0 ? ", " : "", known->keys[i]);
    }
    for (size_t i = 0; i < key_bytes; i++) {
        ag_line_append(quoted, sizeof(quoted), "%c", key[i] >= ' ' && key[i] <= '~' ? key[i] : '?');
    }
    return ag_fail(AG_ERR_INVALID,
                   "%s: %s%s\"%s\" is nothing that is known here (known: %s): take "
                   "it out, or mend it",
                   known->what, known->path, known->path[0] != '\0' ? ": " : "", quoted, list);
}

/* A decision that nobody here knows must not be passed over. */
ag_status_t ag_plan_check_keys(const ag_json_t *object, const char *what, const char *path,
                               const char *const *keys)
{
    return ag_json_each(object, check_key, &(known_keys_t){what, path, keys});
}

/* Ranks that share attention out: all, where nothing is said, or one. */
static ag_status_t read_tensor_ranks(const ag_json_t *json, const char *what, const char *of,
                                     ag_replica_t *replica)
{
    char path[2 * PATH_BYTES];
    ag_status_t status;

    replica->tensor_ranks = replica->n_ranks;
    if (json == NULL) {
        return AG_OK;
    }
    snprintf(path, sizeof(path), "%s.tensor_ranks", of);
    status = ag_plan_read_number(json, what, path, 1, replica->n_ranks, &replica->tensor_ranks);
    if (status == AG_OK && replica->tensor_ranks > 1 && replica->tensor_ranks != replica->n_ranks) {
        return ag_fail(AG_ERR_INVALID, "%s: %s must be 1 or the number of ranks, %u", what, path,
                       replica->n_ranks);
    }
    return status;
}

static ag_status_t read_replica(const ag_json_t *json, const char *what, uint32_t stage,
                                uint32_t number, uint32_t most_micro_batches, ag_replica_t *replica)
{
    const ag_json_t *ranks = ag_json_get(json, "ranks");
    size_t n = ag_json_size(ranks);
    uint64_t sum = 0;
    char of[PATH_BYTES], path[2 * PATH_BYTES];
    ag_status_t status;

    snprintf(of, sizeof(of), "stages[%u].replicas[%u]", stage, number);
    snprintf(path, sizeof(path), "%s.ranks", of);
    if (ag_json_kind(ranks) != AG_JSON_ARRAY || n == 0 || n > AG_MAX_STAGE_RANKS) {
        return ag_fail(AG_ERR_INVALID, "%s: %s must be a list of 1 to %d", what, path,
                       AG_MAX_STAGE_RANKS);
    }
    status = ag_replica_resize(replica, (uint32_t)n);
    if (status == AG_OK) {
        status =
            read_numbers(ranks, what, path, AG_MAX_RANKS - 1, replica->n_ranks, replica->ranks);
    }
    snprintf(path, sizeof(path), "%s.shares", of);
    if (status == AG_OK) {
        status = read_numbers(ag_json_get(json, "shares"), what, path, AG_MAX_SHARE,
                              replica->n_ranks, replica->shares);
    }
    if (status != AG_OK) {
        return status;
    }
    for (uint32_t i = 0; i < replica->n_ranks; i++) {
        sum += replica->shares[i];
    }
    if (sum == 0) {
        return ag_fail(AG_ERR_INVALID, "%s: %s are all 0: one must be above", what, path);
    }
    status = read_tensor_ranks(ag_json_get(json, "tensor_ranks"), what, of, replica);
    if (status != AG_OK) {
        return status;
    }
    snprintf(path, sizeof(path), "%s.micro_batches", of);
    status = ag_plan_read_number(ag_json_get(json, "micro_batches"), what, path, 1,
                                 most_micro_batches, &replica->micro_batches);
    return status == AG_OK ? ag_plan_check_keys(json, what, of, replica_keys) : status;
}

static ag_status_t read_replicas(const ag_json_t *json, const char *what, uint32_t stage,
                                 bool trains, ag_stage_t *of)
{
    uint32_t most = trains ? AG_MAX_REPLICAS : 1, n = (uint32_t)ag_json_size(json);
    ag_status_t status;

    if (ag_json_kind(json) != AG_JSON_ARRAY || ag_json_size(json) == 0 ||
        ag_json_size(json) > most) {
        return trains
                   ? ag_fail(AG_ERR_INVALID, "%s: stages[%u].replicas must be a list of 1 to %u",
                             what, stage, most)
                   : ag_fail(AG_ERR_INVALID,
                             "%s: stages[%u].replicas must be a list of one replica", what, stage);
    }
    status = ag_stage_resize(of, n);
    for (uint32_t i = 0; i < n && status == AG_OK; i++) {
        status = read_replica(ag_json_at(json, i), what, stage, i,
                              trains ? AG_MAX_MICRO_BATCHES : 1, &of->replicas[i]);
    }
    return status;
}

/* One run of layers; of a stage with several, number `chunk` of n. */
static ag_status_t read_layers(const ag_json_t *json, const char *what, uint32_t number,
                               uint32_t chunk, uint32_t n, ag_stage_t *stage)
{
    ag_layers_t layers;
    char path[PATH_BYTES];
    ag_status_t status;

    snprintf(path, sizeof(path), n > 1 ? "stages[%u].layers[%u]" : "stages[%u].layers", number,
             chunk);
    if (ag_json_kind(json) != AG_JSON_ARRAY || ag_json_size(json) != 2) {
        return ag_fail(AG_ERR_INVALID, "%s: %s must be [first, end]", what, path);
    }
    status =
        ag_plan_read_number(ag_json_at(json, 0), what, path, 0, AG_MAX_PLAN_LAYERS, &layers.begin);
    if (status == AG_OK) {
        status = ag_plan_read_number(ag_json_at(json, 1), what, path, 0, AG_MAX_PLAN_LAYERS,
                                     &layers.end);
    }
    return status == AG_OK ? ag_stage_set_layers(stage, chunk, n, layers) : status;
}

static ag_status_t read_stage(const ag_json_t *json, const char *what, uint32_t number, bool trains,
                              uint32_t n_chunks, ag_stage_t *stage)
{
    const ag_json_t *layers = ag_json_get(json, "layers");
    char path[PATH_BYTES];
    ag_status_t status = AG_OK;

    if (n_chunks > 1 && ag_json_size(layers) != n_chunks) {
        return ag_fail(
            AG_ERR_INVALID,
            "%s: stages[%u].layers must be a list of %u pairs [first, end], one for each "
            "of the virtual stages",
            what, number, n_chunks);
    }
    for (uint32_t i = 0; i < n_chunks && status == AG_OK; i++) {
        status = read_layers(n_chunks > 1 ? ag_json_at(layers, i) : layers, what, number, i,
                             n_chunks, stage);
    }
    if (status != AG_OK) {
        return status;
    }
    snprintf(path, sizeof(path), "stages[%u]", number);
    status = read_replicas(ag_json_get(json, "replicas"), what, number, trains, stage);
    return status == AG_OK ? ag_plan_check_keys(json, what, path, stage_keys) : status;
}

/* All layers, each once, chunk after chunk. */
static ag_status_t check_layers(const ag_plan_t *plan, const char *what)
{
    uint32_t next = 0, n_chunks = ag_plan_chunks(plan);

    for (uint32_t c = 0; c < n_chunks * plan->n_stages; c++) {
        ag_layers_t layers = ag_plan_layers(plan, c);
        char path[PATH_BYTES];

        snprintf(path, sizeof(path), n_chunks > 1 ? "stages[%u].layers[%u]" : "stages[%u].layers",
                 c % plan->n_stages, c / plan->n_stages);
        if (layers.begin != next || layers.end <= next) {
            return ag_fail(AG_ERR_INVALID,
                           "%s: %s is [%u, %u]: stages must follow each other without gap or "
                           "overlap, so it must begin with %u and not be empty",
                           what, path, layers.begin, layers.end, next);
        }
        next = layers.end;
    }
    return AG_OK;
}

static ag_status_t see_ranks(const char *what, uint32_t stage, uint32_t number,
                             const ag_replica_t *replica, uint32_t n_ranks, bool *seen)
{
    for (uint32_t i = 0; i < replica->n_ranks; i++) {
        if (replica->ranks[i] >= n_ranks || seen[replica->ranks[i]]) {
            return ag_fail(AG_ERR_INVALID,
                           "%s: stages[%u].replicas[%u].ranks[%u] is %u, which stands %s: "
                           "a plan of %u ranks names 0 to %u, each once",
                           what, stage, number, i, replica->ranks[i],
                           replica->ranks[i] >= n_ranks ? "beyond the last" : "twice", n_ranks,
                           n_ranks - 1);
        }
        seen[replica->ranks[i]] = true;
    }
    return AG_OK;
}

/* Ranks 0 to n - 1, each once. */
static ag_status_t check_ranks(const ag_plan_t *plan, const char *what)
{
    uint32_t n_ranks = ag_plan_ranks(plan);
    ag_status_t status = AG_OK;
    bool *seen;

    if (n_ranks > AG_MAX_RANKS) {
        return ag_fail(AG_ERR_INVALID, "%s: stages have %u ranks together, at most %d can be", what,
                       n_ranks, AG_MAX_RANKS);
    }
    seen = calloc((size_t)n_ranks + 1, sizeof(*seen));
    if (seen == NULL) {
        return ag_fail_nomem("reading a plan", n_ranks);
    }
    for (uint32_t s = 0; s < plan->n_stages && status == AG_OK; s++) {
        for (uint32_t i = 0; i < plan->stages[s].n_replicas && status == AG_OK; i++) {
            status = see_ranks(what, s, i, &plan->stages[s].replicas[i], n_ranks, seen);
        }
    }
    free(seen);
    return status;
}

static ag_status_t read_compute(const ag_json_t *json, const char *what, ag_plan_t *plan)
{
    char name[16];
    ag_status_t status =
        ag_plan_read_text(ag_json_get(json, "compute"), what, "compute", name, sizeof(name));

    if (status != AG_OK) {
        return status;
    }
    if (strcmp(name, "auto") != 0 && strcmp(name, "f32") != 0) {
        return ag_fail(AG_ERR_INVALID, "%s: compute is \"%s\" (known: auto, f32)", what, name);
    }
    plan->compute = strcmp(name, "f32") == 0 ? AG_COMPUTE_F32 : AG_COMPUTE_AUTO;
    status = ag_plan_read_text(ag_json_get(json, "kv_type"), what, "kv_type", name, sizeof(name));
    if (status != AG_OK) {
        return status;
    }
    plan->kv_type = plan->compute == AG_COMPUTE_F32 ? AG_F32 : AG_F16;
    if (strcmp(name, ag_dtype_info(plan->kv_type)->name) != 0) {
        return ag_fail(AG_ERR_INVALID, "%s: kv_type is \"%s\", but compute %s keeps it as %s", what,
                       name, compute_names[plan->compute], ag_dtype_info(plan->kv_type)->name);
    }
    return AG_OK;
}

static ag_status_t read_budgets(const ag_json_t *budgets, const char *what, ag_plan_t *plan)
{
    uint32_t n_ranks = ag_plan_ranks(plan);
    ag_status_t status = AG_OK;
    char path[PATH_BYTES];

    if (budgets == NULL) {
        return AG_OK;
    }
    if (ag_json_kind(budgets) != AG_JSON_ARRAY || ag_json_size(budgets) != n_ranks) {
        return ag_fail(AG_ERR_INVALID, "%s: budgets must be a list of one for each of %u ranks",
                       what, n_ranks);
    }
    plan->budget_bytes = calloc((size_t)n_ranks + 1, sizeof(*plan->budget_bytes));
    if (plan->budget_bytes == NULL) {
        return ag_fail_nomem("reading a plan", n_ranks * sizeof(*plan->budget_bytes));
    }
    plan->n_budgets = n_ranks;
    for (uint32_t i = 0; i < n_ranks && status == AG_OK; i++) {
        const ag_json_t *bytes_json = ag_json_get(ag_json_at(budgets, i), "dram_bytes");
        int64_t bytes = ag_json_integer(bytes_json, -1);

        if (ag_json_kind(bytes_json) != AG_JSON_INTEGER || bytes <= 0) {
            return ag_fail(AG_ERR_INVALID,
                           "%s: budgets[%u].dram_bytes must be a whole number above 0", what, i);
        }
        plan->budget_bytes[i] = (uint64_t)bytes;
        snprintf(path, sizeof(path), "budgets[%u]", i);
        status = ag_plan_check_keys(ag_json_at(budgets, i), what, path, budget_keys);
    }
    return status;
}

static ag_status_t read_members(const ag_json_t *json, const char *what, ag_plan_t *plan)
{
    const ag_json_t *model = ag_json_get(json, "model"), *stages = ag_json_get(json, "stages");
    const ag_json_t *virtual_stages = ag_json_get(ag_json_get(json, "train"), "virtual_stages");
    uint32_t n_chunks = 1;
    bool trains = false;
    char mode[16];
    ag_status_t status =
        read_hash(ag_json_get(model, "spec_hash"), what, "model.spec_hash", plan->spec_hash);

#define THEN(call) status = status == AG_OK ? (call) : status
    THEN(ag_plan_read_text(ag_json_get(model, "family"), what, "model.family", plan->family,
                           sizeof(plan->family)));
    THEN(ag_plan_read_text(ag_json_get(json, "mode"), what, "mode", mode, sizeof(mode)));
    if (status == AG_OK && strcmp(mode, "forward") != 0 && strcmp(mode, "train") != 0) {
        status = ag_fail(AG_ERR_INVALID, "%s: mode is \"%s\" (known: forward, train)", what, mode);
    }
    trains = status == AG_OK && strcmp(mode, "train") == 0;
    if (trains) { /* it says how layers are listed */
        THEN(ag_plan_read_number(virtual_stages, what, "train.virtual_stages", 1, AG_MAX_STAGES,
                                 &n_chunks));
    }
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        THEN(read_stage(ag_json_at(stages, s), what, s, trains, n_chunks, &plan->stages[s]));
    }
    plan->train.virtual_stages = trains ? n_chunks : 0;
    THEN(check_layers(plan, what));
    THEN(check_ranks(plan, what));
    THEN(ag_plan_read_experts(ag_json_get(json, "experts"), what, plan));
    THEN(read_compute(json, what, plan));
    THEN(ag_plan_read_number(ag_json_get(json, "context_tokens"), what, "context_tokens", 1,
                             AG_MAX_TOKENS, &plan->context_tokens));
    THEN(ag_plan_read_number(ag_json_get(json, "batch_tokens"), what, "batch_tokens", 1,
                             trains ? AG_MAX_TOKENS : plan->context_tokens, &plan->batch_tokens));
    THEN(ag_plan_read_number(ag_json_get(json, "sequences"), what, "sequences", 1, AG_MAX_SEQUENCES,
                             &plan->n_sequences));
    if (ag_json_get(json, "overlap_tokens") != NULL) {
        THEN(ag_plan_read_number(ag_json_get(json, "overlap_tokens"), what, "overlap_tokens", 1,
                                 AG_MAX_TOKENS, &plan->overlap_tokens));
    }
    if (trains || ag_json_get(json, "train") != NULL) {
        THEN(ag_plan_read_train(ag_json_get(json, "train"), what, plan));
    }
    THEN(read_budgets(ag_json_get(json, "budgets"), what, plan));
    THEN(ag_plan_check_keys(model, what, "model", model_keys));
    THEN(ag_plan_check_keys(json, what, "", plan_keys));
#undef THEN
    return status;
}

ag_status_t ag_plan_from_json(const ag_json_t *json, const char *what, ag_plan_t **plan_p)
{
    const ag_json_t *stages = ag_json_get(json, "stages");
    const ag_json_t *version = ag_json_get(json, "argosy_plan");
    size_t n_stages = ag_json_size(stages);
    ag_plan_t *plan;
    ag_status_t status;

    if (ag_json_kind(json) != AG_JSON_OBJECT || version == NULL) {
        return ag_fail(AG_ERR_INVALID, "%s: this is no plan (argosy plan prints one)", what);
    }
    if (ag_json_kind(version) != AG_JSON_INTEGER || ag_json_integer(version, 0) != 1) {
        return ag_fail(AG_ERR_INVALID,
                       "%s: argosy_plan must be 1, the version known here: make the plan anew",
                       what);
    }
    if (ag_json_kind(stages) != AG_JSON_ARRAY || n_stages == 0 || n_stages > AG_MAX_STAGES) {
        return ag_fail(AG_ERR_INVALID, "%s: stages must be a list of 1 to %d", what, AG_MAX_STAGES);
    }
    status = ag_plan_create((uint32_t)n_stages, &plan);
    if (status != AG_OK) {
        return status;
    }
    status = read_members(json, what, plan);
    if (status != AG_OK) {
        ag_plan_destroy(plan);
        return status;
    }
    *plan_p = plan;
    return AG_OK;
}
