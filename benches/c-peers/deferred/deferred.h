// W7, the costs of a loop itself: callbacks that defer themselves to the next turn, 1000 in each
// turn, or empty turns that do not wait.
// Options: --op deferred|captured|empty --operations CALLBACKS OR TURNS. Prints {"ns_per_op": NANOSECONDS}.
#pragma once
#include "../common.h"

enum { CALLBACKS_A_TURN = 1000 };

static long operations, ran;
static int is_captured, is_empty;

static int is_done(void) { return ran >= operations; }

// The values that a callback of --op captured has captured: the number that it adds, and the sum at
// which it ends.
typedef struct {
    long step, goal;
} Captured;

static Captured captured[CALLBACKS_A_TURN];

// Returns 1 if that was the last callback, and 0 otherwise.
static int add(const Captured *own) {
    ran += own->step;
    return ran >= own->goal;
}

static void read_options(int argc, char **argv) {
    const char *op = option(argc, argv, "--op", "deferred");
    is_captured = !strcmp(op, "captured");
    is_empty = !strcmp(op, "empty");
    operations = number(argc, argv, "--operations", is_empty ? 500000 : 5000000);
    for (int i = 0; i < CALLBACKS_A_TURN; i++) captured[i] = (Captured){1, operations};
}

// Implemented by each peer: a turn that does not wait; callbacks that run in the next turn; the
// loop, until is_done().
static void turn(void);
static void defer_some(void);
static void run(void);

static void measure(void) {
    if (!is_empty) defer_some();
    uint64_t began = now_ns();
    if (is_empty)
        for (; !is_done(); ran++) turn();
    else
        run();
    printf("{\"ns_per_op\": %.2f}\n", (double)(now_ns() - began) / ran);
}
