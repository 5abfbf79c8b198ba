// libevent: a persistent event for each eventfd.
#include <event2/event.h>

#include "registration.h"

static struct event_base *base;

static void readable(evutil_socket_t source, short what, void *unused) {
    (void)what, (void)unused;
    add_up(source);
}

static void register_all(void) {
    for (int i = 0; i < count; i++) {
        struct event *event = event_new(base, sources[i], EV_READ | EV_PERSIST, readable, NULL);
        if (!event || event_add(event, NULL)) fail("event_add");
    }
}

static void turn(void) { checked(event_base_loop(base, EVLOOP_NONBLOCK), "event_base_loop"); }

int main(int argc, char **argv) {
    open_sources(argc, argv);
    base = event_base_new();
    if (!base) fail("event_base_new");
    measure_registration();
    return 0;
}
