//! The compile-time promises of the types of `handlers`: the traits of every key, and the types
//! that may go to another thread.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::rc::Rc;

use handlers::child::{ChildKey, Output, SupervisorKey};
use handlers::udp::{Udp, UdpKey, UdpSocket};
use handlers::{
    Accepted, Address, AddressParseError, Connecting, Connection, ConnectionLimit,
    ConnectionOptions, FdStream, FrameError, FramingFault, Job, JobError, JobPanic, ListenOptions,
    Listener, OnData, PeerCredentials, Permit, PoolBuilder, PoolHandle, RateLimit, Refusal,
    Refused, Relay, ServerKey, SocketStream, SystemError, Upstream, UpstreamOptions,
    UpstreamRefused, WorkerPool,
};

/// It has no trait that a key or a handle could inherit.
struct NeitherSendNorDebug {
    _state: Rc<()>,
}

type State = NeitherSendNorDebug;

const fn is_key<K: Copy + Debug + Display + Eq + Hash + Send + Sync + 'static>() {}

const fn is_shown<T: Debug>() {}

const fn is_send<T: Send + 'static>() {}

const fn is_shared<T: Send + Sync + 'static>() {}

const fn is_error<E: std::error::Error + Send + Sync + 'static>() {}

#[test]
fn keys_can_be_copied_compared_hashed_and_displayed_for_any_state() {
    const {
        is_key::<ChildKey>();
        is_key::<SupervisorKey>();
        is_key::<ServerKey<State>>();
        is_key::<UdpKey<State>>();
    }
}

#[test]
fn every_type_is_shown_for_any_state() {
    const {
        is_shown::<Connecting<State>>();
        is_shown::<Connection<'_, State>>();
        is_shown::<OnData<State>>();
        is_shown::<Output<'_, '_, State>>();
        is_shown::<PoolBuilder<State, State>>();
        is_shown::<PoolHandle<State, State>>();
        is_shown::<Refused<State, State>>();
        is_shown::<Relay<State>>();
        is_shown::<Udp<State>>();
        is_shown::<Upstream<State>>();
        is_shown::<WorkerPool<State, State>>();
    }
}

#[test]
fn types_for_other_threads_can_be_sent_or_shared_for_any_state() {
    const {
        is_send::<Accepted>();
        is_send::<FdStream>();
        is_send::<SocketStream>();
        is_shared::<PeerCredentials>();
        is_send::<Listener>();
        is_send::<UdpSocket>();
        is_shared::<UpstreamOptions>();
        is_shared::<WorkerPool<State, State>>();
        is_shared::<PoolHandle<State, State>>();
        is_shared::<Job>();
        is_shared::<ConnectionLimit>();
        is_shared::<Permit>();
        is_shared::<RateLimit>();
        is_shared::<ConnectionOptions>();
        is_shared::<ListenOptions>();
        is_shared::<Address>();
    }
}

#[test]
fn every_error_may_be_boxed_and_sent() {
    const {
        is_error::<UpstreamRefused>();
        is_error::<AddressParseError>();
        is_error::<FrameError>();
        is_error::<FramingFault>();
        is_error::<JobError>();
        is_error::<JobPanic>();
        is_error::<Refusal>();
        is_error::<SystemError>();
    }
}
