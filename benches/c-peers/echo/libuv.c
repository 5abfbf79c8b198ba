// libuv: a uv_tcp_t for each connection. It calls uv_try_write, and uv_write for the rest.
#include <uv.h>

#include "echo.h"

typedef struct {
    uv_write_t request;
    char bytes[];
} Left;

static void provide(uv_handle_t *connection, size_t suggested, uv_buf_t *out) {
    (void)connection, (void)suggested;
    *out = uv_buf_init(buffer, sizeof buffer);
}

static void closed(uv_handle_t *connection) { free(connection); }

static void end(uv_stream_t *connection) {
    if (!uv_is_closing((uv_handle_t *)connection)) uv_close((uv_handle_t *)connection, closed);
}

static void readable(uv_stream_t *connection, ssize_t length, const uv_buf_t *from);

static void written(uv_write_t *request, int status) {
    uv_stream_t *connection = request->handle;
    free(request);
    if (status < 0 || uv_read_start(connection, provide, readable)) end(connection);
}

// Does not read until the rest is written.
static void write_later(uv_stream_t *connection, const char *bytes, size_t length) {
    Left *left = malloc(sizeof *left + length);
    memcpy(left->bytes, bytes, length);
    uv_buf_t rest = uv_buf_init(left->bytes, length);
    uv_read_stop(connection);
    if (uv_write(&left->request, connection, &rest, 1, written)) {
        free(left);
        end(connection);
    }
}

static void readable(uv_stream_t *connection, ssize_t length, const uv_buf_t *from) {
    if (length < 0) return end(connection);
    if (length == 0) return;
    uv_buf_t all = uv_buf_init(from->base, length);
    int taken = uv_try_write(connection, &all, 1);
    if (taken == length) return;
    if (taken < 0 && taken != UV_EAGAIN) return end(connection);
    if (taken < 0) taken = 0;
    write_later(connection, from->base + taken, length - taken);
}

static void accepted(uv_stream_t *listener, int status) {
    if (status < 0) return;
    uv_tcp_t *connection = malloc(sizeof *connection);
    if (uv_tcp_init(listener->loop, connection)) fail("uv_tcp_init");
    uv_stream_t *stream = (uv_stream_t *)connection;
    if (uv_accept(listener, stream)) return end(stream);
    if (uv_tcp_nodelay(connection, 1) || uv_read_start(stream, provide, readable)) end(stream);
}

int main(void) {
    uv_loop_t loop;
    uv_tcp_t listener;
    if (uv_loop_init(&loop) || uv_tcp_init(&loop, &listener)) fail("uv_tcp_init");
    if (uv_tcp_open(&listener, open_listener())) fail("uv_tcp_open");
    if (uv_listen((uv_stream_t *)&listener, BACKLOG, accepted)) fail("uv_listen");
    uv_run(&loop, UV_RUN_DEFAULT);
    return 0;
}
