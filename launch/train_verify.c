/*
 * argosy train --verify-plan: the loss and the gradients of one step by the plan, beside those of
 * one rank. The two run one after the other; the first is released before.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/train.h"

/* What sums in another order come to, of the largest element of a tensor. */
#define LOSS_BOUND 1e-5
#define GRADIENT_BOUND 1e-4
#define ROUNDED_BOUND 3e-2 /* products of bfloat16 */

typedef struct verification {
    ag_training_t *training;
    ag_catalog_t *catalog; /* of the run that is under way */
    bool is_reference, is_exact;
    float *gradients; /* rank 0: of all tensors, by the plan */
    double losses[2];
    double worst; /* over the tensors: largest difference over largest element */
    char worst_name[AG_TENSOR_NAME_BYTES];
    size_t n_tensors;
} verification_t;

static uint64_t n_elements(const ag_catalog_t *catalog)
{
    size_t n;
    const ag_catalog_tensor_t *tensors = ag_catalog_tensors(catalog, &n);
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += tensors[i].rows * tensors[i].cols;
    }
    return sum;
}

uint64_t ag_train_verify_bytes(const ag_spec_t *spec)
{
    ag_array_t weights = AG_ARRAY(ag_weight_t);
    uint64_t all = 0, most = 0;

    if (ag_weights_list(spec, &weights) != AG_OK) {
        return 0;
    }
    for (size_t i = 0; i < weights.n_items; i++) {
        const ag_weight_t *weight = &AG_ITEMS(&weights, ag_weight_t)[i];
        uint64_t n = (weight->rows > 0 ? weight->rows : 1) * weight->cols;

        all += n;
        most = n > most ? n : most;
    }
    ag_array_fini(&weights);
    return (all + 2 * most) * sizeof(float);
}

static void compare_tensor(verification_t *v, const ag_catalog_tensor_t *tensor, const float *own,
                           const float *reference)
{
    double difference = 0, largest = 0, relative;

    for (uint64_t i = 0; i < tensor->rows * tensor->cols; i++) {
        double one = fabs((double)own[i] - (double)reference[i]);

        difference = one > difference || isnan(one) ? one : difference;
        largest = fmax(largest, fabs((double)reference[i]));
    }
    relative = largest > 0 ? difference / largest : difference;
    if (v->n_tensors++ == 0 || !(relative <= v->worst)) {
        v->worst = relative;
        memcpy(v->worst_name, tensor->name, sizeof(v->worst_name));
    }
}

/* Rank 0: gradients of all tensors are kept, or held against those that were. */
static ag_status_t read_gradients(verification_t *v)
{
    size_t n;
    const ag_catalog_tensor_t *tensors = ag_catalog_tensors(v->catalog, &n);
    float *own = v->gradients;
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n && status == AG_OK; i++) {
        uint64_t n_floats = tensors[i].rows * tensors[i].cols;
        float *into = v->is_reference ? malloc(n_floats * sizeof(*into) + 1) : own;

        status = into != NULL
                     ? ag_catalog_read(v->catalog, AG_STATE_GRADIENT, i, 0, tensors[i].rows, into)
                     : ag_fail_nomem(tensors[i].name, n_floats * sizeof(*into));
        if (v->is_reference && status == AG_OK) {
            compare_tensor(v, &tensors[i], own, into);
        }
        if (v->is_reference) {
            free(into);
        }
        own += n_floats;
    }
    return status;
}

static ag_status_t after_first(void *arg)
{
    verification_t *v = arg;
    ag_status_t status, ended;

    if (!v->is_reference && v->training->session->net->rank != 0) {
        return ag_catalog_serve(v->catalog);
    }
    status = read_gradients(v);
    ended = ag_catalog_end(v->catalog);
    return status == AG_OK ? ended : status;
}

static ag_status_t on_step(void *arg, const ag_train_step_t *step)
{
    verification_t *v = arg;

    v->losses[v->is_reference] = step->loss;
    return AG_OK;
}

/* One step, on all ranks of the session's net. */
static ag_status_t do_step(void *arg, ag_session_t *run)
{
    verification_t *v = arg;
    ag_train_opts_t opts = v->training->opts;
    ag_train_end_t end;
    ag_status_t status = ag_session_agree(run, ag_catalog_create(run->job, &v->catalog));

    if (status == AG_OK && run->net->rank == 0 && !v->is_reference) {
        v->gradients = calloc(n_elements(v->catalog) + 1, sizeof(*v->gradients));
        status = v->gradients != NULL
                     ? AG_OK
                     : ag_fail_nomem("keeping gradients", n_elements(v->catalog) * sizeof(float));
    }
    if (status == AG_OK) {
        status = ag_job_keep_gradients(run->job);
    }
    status = ag_session_agree(run, status);
    opts.done_steps = 0;
    opts.n_steps = 1;
    opts.after_first = after_first;
    opts.on_step = on_step;
    opts.arg = v;
    opts.eval_data = NULL;
    if (status == AG_OK) {
        status = ag_train(run->job, &opts, &end);
    }
    ag_catalog_destroy(v->catalog);
    v->catalog = NULL;
    return status;
}

static ag_status_t tell(const verification_t *v)
{
    const ag_training_t *training = v->training;
    bool exact = v->is_exact;
    double loss = fabs(v->losses[0] - v->losses[1]) / fabs(v->losses[1]);
    double loss_bound = exact ? LOSS_BOUND : ROUNDED_BOUND;
    double bound = exact ? GRADIENT_BOUND : ROUNDED_BOUND;
    ag_json_t *json;
    ag_status_t status;

    if (training->session->options->json) {
        json = ag_json_new_object();
        ag_json_set(json, "loss", ag_json_new_real(v->losses[0]));
        ag_json_set(json, "reference_loss", ag_json_new_real(v->losses[1]));
        ag_json_set(json, "loss_difference", ag_json_new_real(loss));
        ag_json_set(json, "loss_bound", ag_json_new_real(loss_bound));
        ag_json_set(json, "tensors", ag_json_new_integer((int64_t)v->n_tensors));
        ag_json_set(json, "gradient_difference", ag_json_new_real(v->worst));
        ag_json_set(json, "gradient", ag_json_new_string(v->worst_name, strlen(v->worst_name)));
        ag_json_set(json, "gradient_bound", ag_json_new_real(bound));
        status = ag_print_json_line(json);
    } else {
        printf("loss %.6f, on one rank %.6f: they differ by %.2g of it, bound %.2g\n", v->losses[0],
               v->losses[1], loss, loss_bound);
        printf("gradients of %zu tensors: the largest difference is %.2g of a tensor's largest "
               "element, in %s, bound %.2g\n",
               v->n_tensors, v->worst, v->worst_name, bound);
        status = ag_write_out("", 0);
    }
    return status != AG_OK || (loss <= loss_bound && v->worst <= bound)
               ? status
               : ag_fail(AG_ERR_FORMAT, "the plan and one rank differ beyond the bound");
}

ag_status_t ag_train_verify(ag_training_t *training)
{
    ag_session_t *session = training->session, reference = *session;
    verification_t v = {.training = training, .is_exact = session->plan->compute == AG_COMPUTE_F32};
    ag_plan_t *one = NULL;
    ag_status_t status = ag_session_agree(session, ag_plan_on_one(session->plan, &one));

    reference.plan = NULL;
    reference.build = NULL;
    reference.programs = (ag_programs_t){0};
    reference.may_spare_ranks = true;
    if (status == AG_OK) {
        status = ag_session_take_plan(&reference, one, false);
        session->agreed = reference.agreed;
    }
    if (status == AG_OK) {
        status = ag_session_run_first(session, do_step, &v);
    }
    v.is_reference = true;
    if (status == AG_OK) {
        status = ag_session_run_first(&reference, do_step, &v);
        session->agreed = reference.agreed;
    }
    if (status == AG_OK) {
        status = ag_session_agree(session, session->net->rank == 0 ? tell(&v) : AG_OK);
    }
    if (!ag_session_is_lost(&reference)) {
        ag_session_unload(&reference);
    }
    free(v.gradients);
    return status;
}
