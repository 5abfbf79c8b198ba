// W1, the spike, apart from the loop: a thread hands task after task to a loop that sleeps when it starts.
// Options: --form value|closure --tasks TASKS. Prints {"ns_per_op": NANOSECONDS} from the first handed over to the last
// run, and "writes_per_op", the writes of an eventfd, where the program knows of them.
#pragma once
#include <pthread.h>

#include "../common.h"

// A function and what it is called with: what a closure is here.
typedef struct {
    void (*call)(uint64_t argument);
    uint64_t argument;
} Closure;

// A task on the list: a number, or a closure.
typedef struct Task {
    struct Task *next;
    union {
        uint64_t value;
        Closure closure;
    };
} Task;

static long tasks, ran;
static int is_closure;
static uint64_t sum, began;

static int is_done(void) { return ran >= tasks; }

// What each task comes to: called as it is for a value, by its address for a closure.
static void take(uint64_t value) {
    sum += value;
    ran++;
}

// Each peer's own: brings a task on its way, on the thread of the producer.
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

// Measures run(), which runs the loop until is_done(). How often it wrote an eventfd is at `writes`, if that is known.
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

// The list that is used where a library brings nothing but a wake-up.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Task *first, **end = &first;

// Appends a task; says whether the list was empty.
static int push(uint64_t value) {
    Task *task = malloc(sizeof *task);
    task->next = NULL;
    if (is_closure)
        task->closure = (Closure){take, value};
    else
        task->value = value;
    pthread_mutex_lock(&lock);
    int was_empty = !first;
    *end = task;
    end = &task->next;
    pthread_mutex_unlock(&lock);
    return was_empty;
}

// Takes the whole list and runs what is on it.
static void run_pushed(void) {
    pthread_mutex_lock(&lock);
    Task *task = first;
    first = NULL;
    end = &first;
    pthread_mutex_unlock(&lock);
    while (task) {
        Task *done = task;
        if (is_closure)
            task->closure.call(task->closure.argument);
        else
            take(task->value);
        task = task->next;
        free(done);
    }
}
