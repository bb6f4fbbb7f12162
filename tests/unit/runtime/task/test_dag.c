#include <criterion/criterion.h>
#include <string.h>

#include "runtime/task/dag.h"

Test(dag, sorts_operations_into_streams_in_their_order)
{
    static const uint8_t streams[] = {0, 2, 0, 2, 2, 0};
    static const uint32_t dep_begin[] = {0, 0, 1, 3, 3, 3, 4};
    static const uint32_t deps[] = {0, 0, 1, 4};
    static const uint32_t begins[] = {0, 3, 3, 6}, by_stream[] = {0, 2, 5, 1, 3, 4};
    static const uint32_t positions[] = {0, 0, 1, 1, 2, 2};
    ag_dag_t dag;

    cr_assert_eq(ag_dag_init(6, 3, streams, dep_begin, deps, &dag), AG_OK, "%s", ag_error());
    cr_expect_eq(dag.n_ops, 6);
    cr_expect_eq(dag.n_streams, 3);
    cr_expect_arr_eq(dag.streams, streams, sizeof(streams));
    cr_expect_arr_eq(dag.positions, positions, sizeof(positions));
    cr_expect_arr_eq(dag.stream_begin, begins, sizeof(begins), "stream 1 is empty");
    cr_expect_arr_eq(dag.stream_ops, by_stream, sizeof(by_stream));
    cr_expect_arr_eq(dag.dep_begin, dep_begin, sizeof(dep_begin));
    cr_expect_arr_eq(dag.deps, deps, sizeof(deps));
    ag_dag_fini(&dag);
}

Test(dag, keeps_copies_of_its_own)
{
    uint8_t streams[] = {0, 1};
    uint32_t dep_begin[] = {0, 0, 1}, deps[] = {0};
    ag_dag_t dag;

    cr_assert_eq(ag_dag_init(2, 2, streams, dep_begin, deps, &dag), AG_OK);
    memset(streams, 0xff, sizeof(streams));
    memset(dep_begin, 0xff, sizeof(dep_begin));
    memset(deps, 0xff, sizeof(deps));
    cr_expect_eq(dag.streams[1], 1);
    cr_expect_eq(dag.dep_begin[2], 1);
    cr_expect_eq(dag.deps[0], 0);
    ag_dag_fini(&dag);
    ag_dag_fini(&dag); /* is empty now: nothing is freed twice */
}

Test(dag, may_be_empty)
{
    static const uint32_t dep_begin[] = {0};
    ag_dag_t dag;

    cr_assert_eq(ag_dag_init(0, AG_MAX_STREAMS, NULL, dep_begin, NULL, &dag), AG_OK);
    cr_expect_eq(dag.n_ops, 0);
    for (uint32_t s = 0; s <= AG_MAX_STREAMS; s++) {
        cr_expect_eq(dag.stream_begin[s], 0);
    }
    ag_dag_fini(&dag);
}

typedef struct bad_dag {
    uint32_t n_streams;
    uint8_t streams[3];
    uint32_t dep_begin[4], deps[3];
    const char *error;
} bad_dag_t;

Test(dag, refuses_streams_and_operations_that_do_not_exist)
{
    static const bad_dag_t cases[] = {
        {0, {0}, {0}, {0}, "a dag of 0 streams (1 to 8 can be had)"},
        {AG_MAX_STREAMS + 1, {0}, {0}, {0}, "a dag of 9 streams (1 to 8 can be had)"},
        {2, {0, 1, 2}, {0}, {0}, "operation 2 of a dag is on stream 2 of 2"},
        {2,
         {0, 1, 0},
         {0, 2, 1, 1},
         {0},
         "the dependencies of operation 1 of a dag end before "
         "they begin"},
        {2, {0, 1, 0}, {1, 1, 1, 1}, {0}, "the dependencies of a dag begin at 1"},
        {2, {0, 1, 0}, {0, 0, 1, 2}, {0, 3}, "operation 2 of a dag of 3 waits for operation 3"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const bad_dag_t *bad = &cases[i];
        ag_dag_t dag = {.n_ops = 77};

        cr_expect_eq(ag_dag_init(3, bad->n_streams, bad->streams, bad->dep_begin, bad->deps, &dag),
                     AG_ERR_INVALID);
        cr_expect_str_eq(ag_error(), bad->error);
        cr_expect_eq(dag.n_ops, 77, "an output is set only on success");
    }
}
