// libevent: the same vector under a mutex, and an event, which the other thread makes active if the
// vector was empty.
#include <event2/event.h>
#include <event2/thread.h>

#include "spike.h"

static struct event_base *base;
static struct event *wake_up;

static void woken(evutil_socket_t none, short what, void *unused) {
    (void)none, (void)what, (void)unused;
    run_pushed();
    if (is_done()) event_base_loopbreak(base);
}

static void hand_over(uint64_t value) {
    if (push(value)) event_active(wake_up, EV_READ, 0);
}

static void run(void) { checked(event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY), "event_base_loop"); }

int main(int argc, char **argv) {
    read_options(argc, argv);
    checked(evthread_use_pthreads(), "evthread_use_pthreads");
    base = event_base_new();
    wake_up = event_new(base, -1, EV_PERSIST, woken, NULL);
    if (!wake_up) fail("event_new");
    measure_spike(run, NULL);
    return 0;
}
