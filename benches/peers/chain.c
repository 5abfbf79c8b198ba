// W3, the chain, by hand: epoll_wait, a table of functions, read and write. What the reactor is held against.
// Arguments: --n PIPES --a ACTIVE. Prints {"ns_per_op": NANOSECONDS}.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 200000, WARM_UP = 1000, STRIDE = 7919, BATCH = 1024 };

typedef struct {
    void (*handle)(int place);
    int place;
} Handler;

static int *readers, *writers, n = 1000, active = 100;
static long events, left;

static void send_to(int place) {
    if (write(writers[place], "\1", 1) != 1) perror("write");
}

static void pass_on(int place) {
    char scratch[128];
    ssize_t bytes = read(readers[place], scratch, sizeof scratch);
    if (bytes <= 0) return;
    events += bytes;
    for (; bytes > 0 && left > 0; bytes--, left--) send_to((place + STRIDE) % n);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void run(int epoll, long goal) {
    static struct epoll_event ready[BATCH];
    events = 0;
    left = goal - active;
    int step = n / active ? n / active : 1;
    for (int k = 0; k < active; k++) send_to(k * step % n);
    while (events < goal) {
        int count = epoll_wait(epoll, ready, BATCH, -1);
        for (int i = 0; i < count; i++) {
            Handler *handler = ready[i].data.ptr;
            handler->handle(handler->place);
        }
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--n")) n = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--a")) active = atoi(argv[i + 1]);
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    readers = malloc(n * sizeof *readers);
    writers = malloc(n * sizeof *writers);
    Handler *handlers = malloc(n * sizeof *handlers);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < n; i++) {
        int ends[2];
        if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) return perror("pipe2"), 1;
        readers[i] = ends[0];
        writers[i] = ends[1];
        handlers[i] = (Handler){pass_on, i};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &handlers[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, readers[i], &event)) return perror("epoll_ctl"), 1;
    }
    run(epoll, WARM_UP);
    uint64_t began = now_ns();
    run(epoll, EVENTS);
    printf("{\"ns_per_op\": %.1f}\n", (double)(now_ns() - began) / events);
    return 0;
}
