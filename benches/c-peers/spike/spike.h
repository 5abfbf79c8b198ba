// W1, the spike, without the loop: a thread sends one task after the other to a loop that sleeps at
// the start.
// Options: --form value|closure --tasks TASKS. Prints {"ns_per_op": NANOSECONDS}, from the first
// task sent to the last task run, and "writes_per_op", the writes to an eventfd, if the program
// knows their number.
#pragma once
#include <pthread.h>

#include "../common.h"

// A closure in C: a function and its argument.
typedef struct {
    void (*call)(uint64_t argument);
    uint64_t argument;
} Closure;

static long tasks, ran;
static int is_closure;
static uint64_t sum, began;

static int is_done(void) { return ran >= tasks; }

// The work of each task. For a value it is called directly, and for a closure through its address.
static void take(uint64_t value) {
    sum += value;
    ran++;
}

// Implemented by each peer: sends a task, on the producer's thread.
static void hand_over(uint64_t value);

static void *produce(void *unused) {
    began = now_ns();
    for (long i = 0; i < tasks; i++) hand_over(i);
    return unused;
}

static void read_options(int argc, char **argv) {
    is_closure = !strcmp(option(argc, argv, "--form", "value"), "closure");
    tasks = number(argc, argv, "--tasks", 1000000);
}

// Measures run(), which runs the loop until is_done(). `writes` is the number of writes to an
// eventfd, or NULL if it is unknown.
static void measure_spike(void (*run)(void), const long *writes) {
    pthread_t producer;
    if (pthread_create(&producer, NULL, produce, NULL)) fail("pthread_create");
    run();
    uint64_t ended = now_ns();
    pthread_join(producer, NULL);
    if (sum != (uint64_t)tasks * (tasks - 1) / 2) refuse("not every task ran once");
    printf("{\"ns_per_op\": %.1f", (double)(ended - began) / tasks);
    if (writes) printf(", \"writes_per_op\": %.6f", (double)*writes / tasks);
    printf("}\n");
}

// An array of tasks: numbers or closures.
typedef struct {
    void *items;
    size_t length, capacity;
} Vector;

// The vector between the two threads. All peers share it, since a library in C provides nothing but
// a wakeup.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Vector waiting;

static inline int append(const void *item, size_t size) {
    pthread_mutex_lock(&lock);
    int was_empty = waiting.length == 0;
    if (waiting.length == waiting.capacity) {
        waiting.capacity = waiting.capacity ? 2 * waiting.capacity : 1024;
        waiting.items = realloc(waiting.items, waiting.capacity * size);
    }
    memcpy((char *)waiting.items + waiting.length++ * size, item, size);
    pthread_mutex_unlock(&lock);
    return was_empty;
}

// Appends a task. Returns 1 if the vector was empty.
static int push(uint64_t value) {
    Closure closure = {take, value};
    return is_closure ? append(&closure, sizeof closure) : append(&value, sizeof value);
}

// Swaps the vector for an empty one, and runs its tasks.
static void run_pushed(void) {
    static Vector taken;
    pthread_mutex_lock(&lock);
    Vector swapped = waiting;
    taken.length = 0;
    waiting = taken;
    pthread_mutex_unlock(&lock);
    taken = swapped;
    const Closure *closures = taken.items;
    const uint64_t *values = taken.items;
    for (size_t i = 0; i < taken.length; i++) {
        if (is_closure)
            closures[i].call(closures[i].argument);
        else
            take(values[i]);
    }
}
