// libevent: an event on each side, which the other side makes active.
#include <event2/event.h>
#include <event2/thread.h>

#include "pingpong.h"

static struct event_base *near, *far;
static struct event *to_near, *to_far;

static void far_woken(evutil_socket_t none, short what, void *unused) {
    (void)none, (void)what, (void)unused;
    if (answer()) event_base_loopbreak(far);
}

static void near_woken(evutil_socket_t none, short what, void *unused) {
    (void)none, (void)what, (void)unused;
    if (come_back()) event_base_loopbreak(near);
}

static void wake_far(void) { event_active(to_far, EV_READ, 0); }
static void wake_near(void) { event_active(to_near, EV_READ, 0); }
static void run_far(void) { checked(event_base_loop(far, EVLOOP_NO_EXIT_ON_EMPTY), "event_base_loop"); }
static void run_near(void) { checked(event_base_loop(near, EVLOOP_NO_EXIT_ON_EMPTY), "event_base_loop"); }

int main(int argc, char **argv) {
    read_options(argc, argv);
    checked(evthread_use_pthreads(), "evthread_use_pthreads");
    near = event_base_new();
    far = event_base_new();
    to_near = event_new(near, -1, EV_PERSIST, near_woken, NULL);
    to_far = event_new(far, -1, EV_PERSIST, far_woken, NULL);
    if (!to_near || !to_far) fail("event_new");
    measure_pingpong();
    return 0;
}
