//! The C libraries among the contestants.

use crate::contestant::Library;

pub(super) const LIBEV: Library = Library {
    name: "libev",
    header: "ev.h",
    modules: &["libev"],
    link: &["-lev"],
    package: "libev-dev",
};
pub(super) const LIBEVENT: Library = Library {
    name: "libevent",
    header: "event2/event.h",
    modules: &["libevent", "libevent_pthreads"],
    link: &["-levent", "-levent_pthreads"],
    package: "libevent-dev",
};
pub(super) const LIBUV: Library = Library {
    name: "libuv",
    header: "uv.h",
    modules: &["libuv"],
    link: &["-luv"],
    package: "libuv1-dev",
};
