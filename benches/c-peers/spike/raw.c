// By hand: a vector under a mutex, swapped whole for an empty one, and an eventfd that is written when it was empty.
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "spike.h"

// Of numbers, or of closures.
typedef struct {
    void *items;
    size_t length, capacity;
} Vector;

static Vector waiting;
static int epoll, event;
static long writes;

// Appends a task; says whether the vector was empty.
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

static void hand_over(uint64_t value) {
    Closure closure = {take, value};
    if (is_closure ? append(&closure, sizeof closure) : append(&value, sizeof value)) {
        checked(eventfd_write(event, 1), "write");
        writes++;
    }
}

static void run(void) {
    Vector taken = {0};
    while (!is_done()) {
        struct epoll_event ready;
        checked(epoll_wait(epoll, &ready, 1, -1), "epoll_wait");
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
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    epoll = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    event = checked(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
    // Edge-triggered, so that it need not be read.
    struct epoll_event watched = {.events = EPOLLIN | EPOLLET};
    checked(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &watched), "epoll_ctl");
    measure_spike(run, &writes);
    return 0;
}
