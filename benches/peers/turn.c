// W7 by hand: an epoll_wait that finds nothing, and a list of functions that put themselves on the list again.
// Argument: empty or deferred. Prints {"ns_per_op": NANOSECONDS}.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

enum { TURNS = 500000, CALLBACKS = 5000000, CALLBACKS_A_TURN = 1000 };

typedef struct {
    void (*call)(void *);
    void *argument;
} Task;

static Task *tasks;
static long length, capacity, ran;

static void defer(void (*call)(void *), void *argument) {
    if (length == capacity) tasks = realloc(tasks, (capacity = capacity ? 2 * capacity : 64) * sizeof *tasks);
    tasks[length++] = (Task){call, argument};
}

static void again(void *argument) {
    if (++ran < CALLBACKS) defer(again, argument);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int main(int argc, char **argv) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    uint64_t began = now_ns();
    if (argc > 1 && !strcmp(argv[1], "empty")) {
        for (long i = 0; i < TURNS; i++) epoll_wait(epoll, &event, 1, 0);
        printf("{\"ns_per_op\": %.1f}\n", (double)(now_ns() - began) / TURNS);
        return 0;
    }
    for (int i = 0; i < CALLBACKS_A_TURN; i++) defer(again, NULL);
    Task *running = NULL;
    long running_capacity = 0;
    began = now_ns();
    while (length) {
        Task *batch = tasks;
        long count = length, batch_capacity = capacity;
        tasks = running, capacity = running_capacity, length = 0;
        for (long i = 0; i < count; i++) batch[i].call(batch[i].argument);
        running = batch, running_capacity = batch_capacity;
        epoll_wait(epoll, &event, 1, 0);
    }
    printf("{\"ns_per_op\": %.1f}\n", (double)(now_ns() - began) / ran);
    return 0;
}
