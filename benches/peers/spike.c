// W1 by hand: one thread appends to a vector under a mutex and writes an eventfd when it was empty; another waits by
// epoll, swaps the vector for an empty one, and calls what is in it. Prints {"ns_per_op": NANOSECONDS}.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { TASKS = 1000000 };

typedef struct {
    void (*call)(void *);
    void *argument;
} Task;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Task *tasks;
static size_t length, capacity;
static int event;
static long ran;
static uint64_t began;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void run(void *argument) {
    (void)argument;
    ran++;
}

static void *produce(void *unused) {
    began = now_ns();
    for (long i = 0; i < TASKS; i++) {
        pthread_mutex_lock(&lock);
        if (length == capacity) tasks = realloc(tasks, (capacity = capacity ? 2 * capacity : 1024) * sizeof *tasks);
        int was_empty = length == 0;
        tasks[length++] = (Task){run, (void *)i};
        pthread_mutex_unlock(&lock);
        uint64_t one = 1;
        if (was_empty && write(event, &one, sizeof one) != sizeof one) perror("write");
    }
    return unused;
}

int main(void) {
    event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event watched = {.events = EPOLLIN | EPOLLET}, got;
    epoll_ctl(epoll, EPOLL_CTL_ADD, event, &watched);
    pthread_t producer;
    pthread_create(&producer, NULL, produce, NULL);
    Task *batch = NULL;
    size_t batch_capacity = 0;
    while (ran < TASKS) {
        epoll_wait(epoll, &got, 1, -1);
        pthread_mutex_lock(&lock);
        Task *taken = tasks;
        size_t count = length, taken_capacity = capacity;
        tasks = batch, capacity = batch_capacity, length = 0;
        pthread_mutex_unlock(&lock);
        batch = taken, batch_capacity = taken_capacity;
        for (size_t i = 0; i < count; i++) batch[i].call(batch[i].argument);
    }
    double took = now_ns() - began;
    pthread_join(producer, NULL);
    printf("{\"ns_per_op\": %.1f}\n", took / TASKS);
    return 0;
}
