// libev: ev_timers in one array, re-armed by ev_timer_again, as its manual recommends.
#include <ev.h>

#include "timers.h"

static struct ev_loop *loop;
static ev_timer *all;

static void expired(struct ev_loop *ours, ev_timer *timer, int revents) {
    (void)ours, (void)timer, (void)revents;
    ran++;
}

static void arm(long place, long delay_ms) {
    double delay = delay_ms / 1000.;
    ev_timer_init(&all[place], expired, delay, is_put_off ? delay : 0.);
    ev_timer_start(loop, &all[place]);
}

static void cancel(long place) { ev_timer_stop(loop, &all[place]); }

static void arm_anew(long place, long delay_ms) {
    ev_timer_set(&all[place], delay_ms / 1000., 0.);
    ev_timer_start(loop, &all[place]);
}

static void put_off(long place) { ev_timer_again(loop, &all[place]); }

static void turn(void (*last)(void)) {
    ev_run(loop, EVRUN_NOWAIT);
    last();
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    loop = ev_loop_new(EVBACKEND_EPOLL);
    if (!loop) fail("ev_loop_new");
    all = malloc(timers * sizeof *all);
    measure_timers();
    return 0;
}
