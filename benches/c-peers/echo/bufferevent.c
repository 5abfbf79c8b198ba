// libevent: a bufferevent for each connection, whose input is moved to its output.
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <signal.h>

#include "echo.h"

// While this many bytes are queued, a connection does not read.
enum { OUTPUT_MAX = 1 << 16 };

static void readable(struct bufferevent *connection, void *unused);

static void ended(struct bufferevent *connection, short what, void *unused) {
    (void)unused;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) bufferevent_free(connection);
}

static void written(struct bufferevent *connection, void *unused) {
    (void)unused;
    bufferevent_setcb(connection, readable, NULL, ended, NULL);
    bufferevent_enable(connection, EV_READ);
}

static void readable(struct bufferevent *connection, void *unused) {
    (void)unused;
    checked(bufferevent_write_buffer(connection, bufferevent_get_input(connection)), "bufferevent_write_buffer");
    if (evbuffer_get_length(bufferevent_get_output(connection)) > OUTPUT_MAX) {
        bufferevent_setcb(connection, readable, written, ended, NULL);
        bufferevent_disable(connection, EV_READ);
    }
}

static void accepted(struct evconnlistener *listener, evutil_socket_t socket, struct sockaddr *peer, int length,
                     void *unused) {
    (void)peer, (void)length, (void)unused;
    disable_nagle(socket);
    struct event_base *base = evconnlistener_get_base(listener);
    struct bufferevent *connection = bufferevent_socket_new(base, socket, BEV_OPT_CLOSE_ON_FREE);
    if (!connection) fail("bufferevent_socket_new");
    bufferevent_setcb(connection, readable, NULL, ended, NULL);
    bufferevent_enable(connection, EV_READ | EV_WRITE);
}

int main(void) {
    // bufferevent writes by writev.
    signal(SIGPIPE, SIG_IGN);
    struct event_base *base = event_base_new();
    if (!base) fail("event_base_new");
    // A backlog of 0: the socket is listening already.
    unsigned flags = LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE;
    if (!evconnlistener_new(base, accepted, NULL, flags, 0, open_listener())) fail("evconnlistener_new");
    checked(event_base_dispatch(base), "event_base_dispatch");
    return 0;
}
