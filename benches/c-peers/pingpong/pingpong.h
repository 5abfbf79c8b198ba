// W2, ping-pong, without the loops: two threads, each with a loop on its own core, wake each other
// in turn.
// Options: --round-trips ROUND_TRIPS. Prints {"ns_per_op": NANOSECONDS}, the median of the round
// trips, and "ns_99th".
#pragma once
#include <pthread.h>
#include <sched.h>

#include "../common.h"

static long round_trips, returned, answered;
static uint64_t *took, set_out;
// The cores that this process may use, from before its threads are pinned.
static cpu_set_t allowed;

typedef enum { NEAR, FAR } Which;

// Pins the near side to the first core, and the far side to the last.
static void pin(Which side) {
    int core = side == NEAR ? 0 : CPU_SETSIZE - 1;
    while (!CPU_ISSET(core, &allowed)) core += side == NEAR ? 1 : -1;
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    checked(sched_setaffinity(0, sizeof cores, &cores), "sched_setaffinity");
}

// Implemented by each peer: the functions that wake the other side, and the loop of each side. When
// a side is woken, its loop calls answer() or come_back(). It ends when that function returns 1.
static void wake_far(void);
static void wake_near(void);
static void run_far(void);
static void run_near(void);

static void leave(void) {
    set_out = now_ns();
    wake_far();
}

// Called when the far side has been woken. Returns 1 if that was the last time.
static int answer(void) {
    wake_near();
    return ++answered == round_trips;
}

// Called when the near side has been woken. Returns 1 if that was the last time.
static int come_back(void) {
    took[returned++] = now_ns() - set_out;
    if (returned == round_trips) return 1;
    leave();
    return 0;
}

static void *far_side(void *unused) {
    pin(FAR);
    run_far();
    return unused;
}

static void read_options(int argc, char **argv) {
    round_trips = number(argc, argv, "--round-trips", 20000);
    took = calloc(round_trips, sizeof *took);
    checked(sched_getaffinity(0, sizeof allowed, &allowed), "sched_getaffinity");
}

static void measure_pingpong(void) {
    pthread_t far;
    pin(NEAR);
    if (pthread_create(&far, NULL, far_side, NULL)) fail("pthread_create");
    leave();
    run_near();
    pthread_join(far, NULL);
    qsort(took, round_trips, sizeof *took, ascending);
    printf("{\"ns_per_op\": %lu, \"ns_99th\": %lu}\n", took[round_trips / 2], took[round_trips * 99 / 100]);
}
