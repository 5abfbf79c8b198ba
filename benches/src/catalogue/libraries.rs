//! The C libraries among the contestants.

use crate::contestant::Library;

pub(super) const LIBEV: Library = Library {
    name: "libev",
    headers: &["ev.h"],
    modules: &["libev"],
    link: &["-lev"],
    package: "libev-dev",
};
pub(super) const LIBEVENT: Library = Library {
    name: "libevent",
    headers: &["event2/event.h"],
    modules: &["libevent", "libevent_pthreads"],
    link: &["-levent", "-levent_pthreads"],
    package: "libevent-dev",
};
pub(super) const LIBEVENT_OPENSSL: Library = Library {
    name: "libevent with OpenSSL",
    headers: &[
        "event2/event.h",
        "event2/bufferevent_ssl.h",
        "openssl/ssl.h",
    ],
    modules: &["libevent_openssl", "libssl", "libcrypto"],
    link: &["-levent_openssl", "-levent", "-lssl", "-lcrypto"],
    package: "libevent-dev libssl-dev",
};
pub(super) const LIBUV: Library = Library {
    name: "libuv",
    headers: &["uv.h"],
    modules: &["libuv"],
    link: &["-luv"],
    package: "libuv1-dev",
};
