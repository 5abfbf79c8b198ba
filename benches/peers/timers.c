// W4 on libev: timers armed, cancelled, run, and put off by ev_timer_again, as its manual recommends.
// Argument: cancel, fire or put-off. Prints {"ns_per_op": NANOSECONDS, "ns_arm": NANOSECONDS}.
#include <ev.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PUT_OFF = 10000000, PUT_OFF_A_TURN = 1000 };

static long ran;
static uint64_t seed = 88172645463325252ull;

static uint64_t random64(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void count(struct ev_loop *loop, ev_timer *timer, int events) {
    (void)loop, (void)timer, (void)events;
    ran++;
}

int main(int argc, char **argv) {
    const char *op = argc > 1 ? argv[1] : "cancel";
    int put_off = !strcmp(op, "put-off"), fire = !strcmp(op, "fire");
    long n = put_off ? 100000 : 1000000, operations = n;
    struct ev_loop *loop = ev_loop_new(EVBACKEND_EPOLL);
    ev_timer *timers = malloc(n * sizeof *timers);
    ev_now_update(loop);
    uint64_t began = now_ns();
    for (long i = 0; i < n; i++) {
        double delay = put_off ? 30. : (1 + random64() % (fire ? 100 : 60000)) / 1000.;
        ev_timer_init(&timers[i], count, delay, put_off ? 30. : 0.);
        ev_timer_start(loop, &timers[i]);
    }
    uint64_t armed = now_ns() - began;
    if (fire) {
        usleep(120000);
        began = now_ns();
        while (ran < n) ev_run(loop, EVRUN_NOWAIT);
    } else if (put_off) {
        operations = PUT_OFF;
        began = now_ns();
        for (long turn = 0; turn < PUT_OFF / PUT_OFF_A_TURN; turn++) {
            for (int i = 0; i < PUT_OFF_A_TURN; i++) ev_timer_again(loop, &timers[random64() % n]);
            ev_run(loop, EVRUN_NOWAIT);
        }
    } else {
        began = now_ns();
        for (long i = 0; i < n; i++) ev_timer_stop(loop, &timers[i]);
    }
    double took = now_ns() - began;
    printf("{\"ns_per_op\": %.1f, \"ns_arm\": %.1f}\n", took / operations, (double)armed / n);
    return 0;
}
