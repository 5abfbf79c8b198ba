// libevent: a bufferevent over OpenSSL for each connection, whose input is moved to its output.
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <openssl/ssl.h>
#include <signal.h>

#include "../echo/echo.h"

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
                     void *context) {
    (void)peer, (void)length;
    disable_nagle(socket);
    struct event_base *base = evconnlistener_get_base(listener);
    SSL *session = SSL_new(context);
    if (!session) fail("SSL_new");
    struct bufferevent *connection =
        bufferevent_openssl_socket_new(base, socket, session, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (!connection) fail("bufferevent_openssl_socket_new");
    bufferevent_setcb(connection, readable, NULL, ended, NULL);
    bufferevent_enable(connection, EV_READ | EV_WRITE);
}

// Returns the settings of all sessions, with the certificate and the key of this file. An idle
// session keeps no buffer.
static SSL_CTX *settings(const char *certificate) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context) fail("SSL_CTX_new");
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"echo", 4);
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, certificate, SSL_FILETYPE_PEM) != 1)
        fail("the certificate");
    return context;
}

int main(int argc, char **argv) {
    const char *certificate = option(argc, argv, "--certificate", NULL);
    if (!certificate) refuse("--certificate is missing");
    // bufferevent writes by writev.
    signal(SIGPIPE, SIG_IGN);
    struct event_base *base = event_base_new();
    if (!base) fail("event_base_new");
    // A backlog of 0: the socket is listening already.
    unsigned flags = LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE;
    SSL_CTX *context = settings(certificate);
    if (!evconnlistener_new(base, accepted, context, flags, 0, open_listener())) fail("evconnlistener_new");
    checked(event_base_dispatch(base), "event_base_dispatch");
    return 0;
}
