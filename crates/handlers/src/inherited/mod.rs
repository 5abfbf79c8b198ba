//! Sockets that a service manager has opened for this process.

mod environment;
mod socket;

use std::io;
use std::mem::take;
use std::os::fd::RawFd;

use self::environment::Descriptor;
pub use self::socket::{InheritedSocket, SocketKind};
use crate::listener::{ListenOptions, Listener};

/// The sockets that a service manager such as systemd has opened for this process. The service
/// manager sets the variable `LISTEN_FDS` to the number of descriptors, `LISTEN_FDNAMES` to their
/// names, and `LISTEN_PID` to the id of the process that they are for.
///
/// The sockets can be of any kind. Take each by its [name](Self::take_named) or its
/// [kind](Self::take_kind). A socket that is not taken stays here, and is closed when this value is
/// dropped.
///
/// ```
/// use handlers::{InheritedSockets, ListenOptions, Listener};
///
/// /// Listens at the sockets of the service manager, or else at a port of its own.
/// fn listeners() -> std::io::Result<Vec<Listener>> {
///     let mut sockets = InheritedSockets::from_env()?;
///     let options = ListenOptions::new();
///     let mut listeners = sockets.take_listeners(&options)?;
///     if listeners.is_empty() {
///         listeners.push(options.bind(&"127.0.0.1:0".parse()?)?);
///     }
///     for socket in sockets.iter() {
///         eprintln!("not used: {:?} with the name {}", socket.kind(), socket.name());
///     }
///     Ok(listeners)
/// }
/// # assert_eq!(listeners().unwrap().len(), 1);
/// ```
#[doc(alias("sd_listen_fds", "LISTEN_FDS", "socket_activation"))]
#[derive(Debug, Default)]
pub struct InheritedSockets {
    sockets: Vec<InheritedSocket>,
    no_sockets: Vec<(RawFd, String)>,
}

impl InheritedSockets {
    /// Takes the sockets that are passed to this process, in the order of their descriptors, and
    /// sets close-on-exec on each descriptor. If `LISTEN_PID` is not the id of this process, no
    /// socket is taken. Returns an empty value if no socket was passed, and on every further call.
    ///
    /// In every case this function removes `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` from the
    /// environment, so that child processes do not inherit the variables. Call it before any thread
    /// is started, because it is not safe to change the environment while another thread reads it.
    /// Call it before anything else opens a descriptor: if the variables name more descriptors than
    /// were passed, this function would take descriptors of this process.
    ///
    /// # Errors
    /// - `InvalidInput` if `LISTEN_PID` or `LISTEN_FDS` is not a number, or if `LISTEN_FDS` is not
    ///   in the range from 1 to 1048576.
    /// - `InvalidInput` if `LISTEN_FDNAMES` is set and does not have one name for each descriptor.
    /// - `EBADF` if one of the descriptors is not open.
    /// - `InvalidInput` if the variable `LISTEN_FDS_FIRST_FD` is set. Some tools use it to pass
    ///   descriptors that do not begin at 3, and this function does not support that. Service
    ///   managers do not set this variable.
    ///
    /// # Cost
    /// At most 60 system calls for each descriptor that is not a socket, and fewer for a socket.
    ///
    /// # Source
    /// `sd_listen_fds(3)`.
    pub fn from_env() -> io::Result<Self> {
        let mut inherited = Self::default();
        for descriptor in environment::take()? {
            match descriptor {
                Descriptor::Socket { fd, name } => {
                    inherited.sockets.push(InheritedSocket::new(fd, name)?);
                }
                Descriptor::NoSocket { fd, name } => inherited.no_sockets.push((fd, name)),
            }
        }
        Ok(inherited)
    }

    /// Returns the sockets that are not taken yet, in the order of their descriptors.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &InheritedSocket> {
        self.sockets.iter()
    }

    /// Takes all sockets with this name, in the order of their descriptors. Returns an empty vector
    /// if no socket has this name. systemd uses `FileDescriptorName=` of a socket unit, or the name
    /// of the unit, for all sockets of the unit.
    pub fn take_named(&mut self, name: &str) -> Vec<InheritedSocket> {
        self.take_if(|socket| socket.name() == name)
    }

    /// Takes all sockets of this kind, in the order of their descriptors. Returns an empty vector
    /// if no socket is of this kind.
    ///
    /// ```
    /// use handlers::{InheritedSockets, SocketKind};
    /// use handlers::udp::UdpSocket;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut sockets = InheritedSockets::from_env()?;
    /// for socket in sockets.take_kind(SocketKind::Udp) {
    ///     let socket = UdpSocket::adopt(socket)?;
    ///     # let _ = socket;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_kind(&mut self, kind: SocketKind) -> Vec<InheritedSocket> {
        self.take_if(|socket| socket.kind() == kind)
    }

    /// Takes all sockets for which `wanted` returns `true`, in the order of their descriptors.
    pub fn take_if(
        &mut self,
        wanted: impl FnMut(&mut InheritedSocket) -> bool,
    ) -> Vec<InheritedSocket> {
        self.sockets.extract_if(.., wanted).collect()
    }

    /// Takes all sockets of the kinds [`TcpListener`](SocketKind::TcpListener) and
    /// [`UnixListener`](SocketKind::UnixListener), in the order of their descriptors. Returns a
    /// listener with `options` for each. To give each listener other options, use
    /// [`take_named`](Self::take_named) and [`ListenOptions::adopt`].
    ///
    /// # Errors
    /// The errors of [`ListenOptions::adopt`], if the kind of a socket has changed meanwhile. The
    /// sockets that follow are not taken.
    pub fn take_listeners(&mut self, options: &ListenOptions) -> io::Result<Vec<Listener>> {
        let listens = |socket: &InheritedSocket| {
            matches!(
                socket.kind(),
                SocketKind::TcpListener | SocketKind::UnixListener
            )
        };
        let mut listeners = Vec::new();
        while let Some(place) = self.sockets.iter().position(listens) {
            listeners.push(options.clone().adopt(self.sockets.remove(place))?);
        }
        Ok(listeners)
    }

    /// Returns the descriptors that were passed and are not sockets, with their names: pipes, files
    /// and devices (`ListenFIFO=` and `ListenSpecial=` of systemd). They stay open, and are closed
    /// when the process executes another program. To read one of them, open `/proc/self/fd/N`.
    pub fn no_sockets(&self) -> impl ExactSizeIterator<Item = (RawFd, &str)> {
        self.no_sockets
            .iter()
            .map(|(fd, name)| (*fd, name.as_str()))
    }

    /// Returns the number of sockets that are not taken yet.
    pub const fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Returns `true` if no socket is left.
    pub const fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

/// Takes all sockets that are left, in the order of their descriptors.
impl IntoIterator for InheritedSockets {
    type Item = InheritedSocket;
    type IntoIter = std::vec::IntoIter<InheritedSocket>;

    fn into_iter(mut self) -> Self::IntoIter {
        take(&mut self.sockets).into_iter()
    }
}
