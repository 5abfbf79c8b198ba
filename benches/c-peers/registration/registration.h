// W3, registration, without the loop: eventfds that exist already are watched for reading, each
// with a handler.
// Options: --sources EVENTFDS. Prints {"ns_per_op": NANOSECONDS, "bytes": RESIDENT BYTES} for each
// source.
#pragma once
#include <sys/eventfd.h>

#include "../common.h"

static int *sources, count;
static uint64_t sum;

// The function that every handler calls.
static void add_up(int source) {
    uint64_t number;
    if (read(source, &number, sizeof number) == sizeof number) sum += number;
}

static void open_sources(int argc, char **argv) {
    raise_open_files_limit();
    count = number(argc, argv, "--sources", 1000);
    sources = malloc(count * sizeof *sources);
    for (int i = 0; i < count; i++) sources[i] = checked(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
}

// Implemented by each peer: registers all sources, and runs one turn of the loop without waiting.
static void register_all(void);
static void turn(void);

// The turn belongs to the registration, since some loops call the kernel only then.
static void measure_registration(void) {
    long resident = resident_bytes();
    uint64_t began = now_ns();
    register_all();
    turn();
    uint64_t took = now_ns() - began;
    resident = resident_bytes() - resident;
    // Every handler is registered.
    for (int i = 0; i < count; i++) checked(eventfd_write(sources[i], 1), "write");
    while (sum < (uint64_t)count) turn();
    printf("{\"ns_per_op\": %.1f, \"bytes\": %.1f}\n", (double)took / count, (double)resident / count);
}
