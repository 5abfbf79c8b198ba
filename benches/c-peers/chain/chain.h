// W3, the chain, without the loop: pipes, some of which have a byte in flight.
// A loop registers readers[0] to readers[sources - 1]. It calls pass_on(place) for each readable
// one, until is_done().
// Options: --sources PIPES --active BYTES --events EVENTS. Prints {"ns_per_op": NANOSECONDS}.
#pragma once
#include "../common.h"

enum { WARM_UP = 1000, STRIDE = 7919 };

static int *readers, *writers, *after, sources, active;
static long events, left, goal, goal_after_warm_up;

static void send_to(int place) {
    if (write(writers[place], "\1", 1) != 1) fail("write");
}

static int is_done(void) { return events >= goal; }

// Reads the available bytes, and writes as many to the next pipe.
static void pass_on(int place) {
    char scratch[128];
    ssize_t bytes = read(readers[place], scratch, sizeof scratch);
    if (bytes <= 0) return;
    events += bytes;
    for (; bytes > 0 && left > 0; bytes--, left--) send_to(after[place]);
}

static void open_chain(int argc, char **argv) {
    raise_open_files_limit();
    sources = number(argc, argv, "--sources", 1000);
    active = number(argc, argv, "--active", 100);
    goal_after_warm_up = number(argc, argv, "--events", 200000);
    readers = malloc(sources * sizeof *readers);
    writers = malloc(sources * sizeof *writers);
    after = malloc(sources * sizeof *after);
    for (int i = 0; i < sources; i++) {
        int ends[2];
        if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) fail("pipe2");
        readers[i] = ends[0];
        writers[i] = ends[1];
        after[i] = (i + STRIDE) % sources;
    }
}

static void start_chain(long count) {
    events = 0;
    goal = count;
    left = count - active;
    int step = sources / active ? sources / active : 1;
    for (int k = 0; k < active; k++) send_to(k * step % sources);
}

// Measures run(), which runs the loop until is_done(), after a warm-up.
static void measure_chain(void (*run)(void *), void *loop) {
    start_chain(active > WARM_UP ? active : WARM_UP);
    run(loop);
    start_chain(goal_after_warm_up);
    uint64_t began = now_ns();
    run(loop);
    printf("{\"ns_per_op\": %.1f}\n", (double)(now_ns() - began) / events);
}
