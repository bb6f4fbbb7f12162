/* Random models, plans, work and orders on a simulated cluster: README.md. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "asan.h"
#include "check.h"

#ifdef HAS_ASAN
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif

/* A case's own processor time: who goes on for so long does not end. */
enum { MOST_CASE_S = 120, LEAK_CHECK_CASES = 100, FAILURES_SHOWN = 5 };

/* The command that repeats the case under way, for whoever ends the process. */
static char replay[512];
static volatile sig_atomic_t interrupted;

static void say_replay(void)
{
    ssize_t n = write(STDERR_FILENO, replay, strlen(replay));

    (void)n;
}

static void on_end(int signal_number)
{
    say_replay();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static void watch(void)
{
#ifdef HAS_ASAN
    __sanitizer_set_death_callback(say_replay);
#else
    signal(SIGSEGV, on_end);
    signal(SIGBUS, on_end);
#endif
    signal(SIGABRT, on_end);
    signal(SIGPROF, on_end);
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
}

static bool leaks(void)
{
#ifdef HAS_ASAN
    return __lsan_do_recoverable_leak_check() != 0;
#else
    return false;
#endif
}

typedef struct session {
    const char *program;
    char folder[64];
    tally_t *tally;
    figures_t figures;
    uint64_t n_failed;
} session_t;

/* Run a case, and say what is wrong with it and how to see it again. */
static void run_case(session_t *session, uint64_t number, FILE *verbose)
{
    const struct itimerval limit = {.it_value.tv_sec = MOST_CASE_S};
    char complaint[COMPLAINT_BYTES] = "";

    snprintf(replay, sizeof(replay), "\nreplay: %s --case %llu\n", session->program,
             (unsigned long long)number);
    setitimer(ITIMER_PROF, &limit, NULL);
    if (!check_case(number, session->folder, session->tally, &session->figures, verbose,
                    complaint)) {
        session->n_failed++;
        printf("case %llu: %s%s", (unsigned long long)number, complaint, replay);
    }
}

static bool say_leaks(session_t *session, const char *when)
{
    if (leaks()) {
        printf("memory is lost: %s\n", when);
        session->n_failed++;
        return true;
    }
    return false;
}

static void run_cases(session_t *session, uint64_t first, uint64_t n)
{
    for (uint64_t i = 0; i < n && session->n_failed < FAILURES_SHOWN && !interrupted; i++) {
        char when[96];

        run_case(session, first + i, NULL);
        snprintf(when, sizeof(when), "in one of the cases %llu to %llu",
                 (unsigned long long)(first + i / LEAK_CHECK_CASES * LEAK_CHECK_CASES),
                 (unsigned long long)(first + i));
        if (((i + 1) % LEAK_CHECK_CASES == 0 || i + 1 == n) && say_leaks(session, when)) {
            break;
        }
    }
}

/* Until somebody stops it: a line a minute, and each failure's command. */
static void run_night(session_t *session)
{
    uint64_t number = (uint64_t)time(NULL) * 1000;
    time_t said = time(NULL);

    for (; !interrupted; number++) {
        run_case(session, number, NULL);
        if (time(NULL) - said >= 60) {
            said = time(NULL);
            printf("%llu cases, %llu failed\n", (unsigned long long)session->figures.n_cases,
                   (unsigned long long)session->n_failed);
        }
    }
    (void)say_leaks(session, "in this night");
}

static void open_session(session_t *session, const char *program)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* LeakSanitizer ends the process without more ado */
    *session = (session_t){.program = program, .tally = tally_create()};
    snprintf(session->folder, sizeof(session->folder), "%s/argosy-cluster-XXXXXX", P_tmpdir);
    if (mkdtemp(session->folder) == NULL) {
        perror(session->folder);
        exit(1);
    }
    watch();
}

static void close_session(session_t *session)
{
    static const char *const files[] = {"model.gguf", "model.safetensors", "config.json"};

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[128];

        snprintf(path, sizeof(path), "%s/%s", session->folder, files[i]);
        unlink(path);
    }
    rmdir(session->folder);
    tally_destroy(session->tally);
}

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s --cases FIRST COUNT [--least TIMES]   these; each row of the table at least "
            "so often\n"
            "       %s --case NUMBER                         one, told in full\n"
            "       %s --night                               others, until stopped\n",
            program, program, program);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t least = argc == 6 && strcmp(argv[4], "--least") == 0 ? strtoull(argv[5], NULL, 10) : 0;
    bool cases = (argc == 4 || argc == 6) && strcmp(argv[1], "--cases") == 0;
    bool one = argc == 3 && strcmp(argv[1], "--case") == 0;
    uint32_t n_short = 0;
    session_t session;

    if (!cases && !one && !(argc == 2 && strcmp(argv[1], "--night") == 0)) {
        return usage(argv[0]);
    }
    open_session(&session, argv[0]);
    if (cases) {
        run_cases(&session, strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    } else if (one) {
        run_case(&session, strtoull(argv[2], NULL, 10), stdout);
        (void)say_leaks(&session, "in this case");
    } else {
        run_night(&session);
    }
    if (!one) {
        n_short = tally_print(session.tally, least, stdout);
    }
    session.n_failed += !check_figures(&session.figures, stdout);
    printf("%llu failed, %u rows were met too seldom\n", (unsigned long long)session.n_failed,
           n_short);
    close_session(&session);
    return session.n_failed > 0 || n_short > 0;
}
