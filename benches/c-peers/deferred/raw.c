// By hand: a vector of functions. In each turn it is swapped for an empty one, and its functions
// run.
#include <sys/epoll.h>

#include "deferred.h"

typedef struct {
    void (*call)(void *argument);
    void *argument;
} Task;

typedef struct {
    Task *tasks;
    size_t length, capacity;
} Vector;

static int epoll;
static Vector deferred, running;

static void defer(void (*call)(void *argument), void *argument) {
    if (deferred.length == deferred.capacity) {
        deferred.capacity = deferred.capacity ? 2 * deferred.capacity : 64;
        deferred.tasks = realloc(deferred.tasks, deferred.capacity * sizeof *deferred.tasks);
    }
    deferred.tasks[deferred.length++] = (Task){call, argument};
}

static void again(void *argument) {
    ran++;
    if (!is_done()) defer(again, argument);
}

static void again_captured(void *own) {
    if (!add(own)) defer(again_captured, own);
}

static void turn(void) {
    struct epoll_event ready;
    checked(epoll_wait(epoll, &ready, 1, 0), "epoll_wait");
}

static void defer_some(void) {
    for (int i = 0; i < CALLBACKS_A_TURN; i++)
        if (is_captured)
            defer(again_captured, &captured[i]);
        else
            defer(again, NULL);
}

static void run(void) {
    while (deferred.length) {
        turn();
        Vector swapped = deferred;
        running.length = 0;
        deferred = running;
        running = swapped;
        for (size_t i = 0; i < running.length; i++) running.tasks[i].call(running.tasks[i].argument);
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    epoll = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    measure();
    return 0;
}
