// libevent: timer events in its heap. They are re-armed by event_add within a callback, where the
// time is cached.
// Additional option: --common 1, for its common timeouts: a queue for each delay. All timers then
// have 30 s, or 50 ms for --op fire.
#include <event2/event.h>

#include "timers.h"

static struct event_base *base;
static struct event **all, *job;
static const struct timeval *common;
static void (*to_do)(void);

static void expired(evutil_socket_t none, short what, void *unused) {
    (void)none, (void)what, (void)unused;
    ran++;
}

static void do_job(evutil_socket_t none, short what, void *unused) {
    (void)none, (void)what, (void)unused;
    to_do();
}

static void set(long place, long delay_ms) {
    struct timeval delay = {delay_ms / 1000, delay_ms % 1000 * 1000};
    checked(event_add(all[place], common ? common : &delay), "event_add");
}

static void arm(long place, long delay_ms) {
    all[place] = evtimer_new(base, expired, NULL);
    if (!all[place]) fail("evtimer_new");
    set(place, delay_ms);
}

static void cancel(long place) { checked(event_del(all[place]), "event_del"); }

static void arm_anew(long place, long delay_ms) { set(place, delay_ms); }

static void put_off(long place) { set(place, IDLE_MS); }

static void turn(void (*last)(void)) {
    to_do = last;
    event_active(job, EV_TIMEOUT, 0);
    checked(event_base_loop(base, EVLOOP_NONBLOCK | EVLOOP_ONCE), "event_base_loop");
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    base = event_base_new();
    job = event_new(base, -1, EV_PERSIST, do_job, NULL);
    if (!job) fail("event_new");
    if (number(argc, argv, "--common", 0)) {
        struct timeval delay = is_fire ? (struct timeval){0, 50000} : (struct timeval){IDLE_MS / 1000, 0};
        common = event_base_init_common_timeout(base, &delay);
        if (!common) fail("event_base_init_common_timeout");
    }
    all = malloc(timers * sizeof *all);
    measure_timers();
    return 0;
}
