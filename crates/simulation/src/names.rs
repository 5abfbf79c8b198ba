//! The names that the simulated machine can look up.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::simulation::{sleep, world};
use crate::world::World;

/// The time after which a lookup fails that gets no answer: the C library gives up after two
/// attempts at each of three name servers, of 5 s each (resolv.conf(5)).
const GIVES_UP_AFTER: Duration = Duration::from_secs(30);

/// The addresses of each name.
#[derive(Debug)]
pub(crate) struct Names(BTreeMap<String, Vec<IpAddr>>);

impl Default for Names {
    fn default() -> Self {
        let localhost = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        Self(BTreeMap::from([("localhost".to_owned(), localhost)]))
    }
}

impl Names {
    /// Returns the addresses of a name, or of an IP address.
    fn find(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        match self.0.get(host) {
            Some(found) if found.is_empty() => Err(io::Error::new(
                ErrorKind::AddrNotAvailable,
                "the name has no address",
            )),
            Some(found) => Ok(found.clone()),
            None => Err(io::Error::new(ErrorKind::NotFound, "no such name")),
        }
    }
}

/// Sets the addresses of the name `host`, in the order in which a lookup returns them. A lookup of
/// a name without addresses fails with `AddrNotAvailable`, and of a name that was never set with
/// `NotFound`. The name `localhost` is set to 127.0.0.1 when a simulation begins.
///
/// ```
/// use handlers::{Resolver, Target};
/// use reactor::Reactor;
/// use simulation::Simulation;
///
/// let report = Simulation::new(1).run(|| {
///     simulation::set_name("db.example", ["192.0.2.1".parse().expect("an address")]);
///     let target: Target = "db.example:5432".parse().expect("a target");
///     let mut reactor = Reactor::<()>::new().expect("a loop");
///     Resolver::default().resolve(&mut reactor, &target, |found, _cx| {
///         let found = found.expect("it is known");
///         assert_eq!(found, ["192.0.2.1:5432".parse().expect("an address")]);
///     });
///     reactor.run(&mut ()).expect("it ends");
/// });
/// assert!(report.outcome.is_ok());
/// ```
///
/// # Panics
/// Outside of a simulation.
#[track_caller]
pub fn set_name(host: &str, addresses: impl IntoIterator<Item = IpAddr>) {
    let addresses = addresses.into_iter().collect();
    world().with(|state| state.names.0.insert(host.to_owned(), addresses));
}

impl World {
    /// Blocks the present thread while a name is looked up.
    pub(crate) fn look_up(&self, host: &str, service: &str) -> io::Result<Vec<SocketAddr>> {
        let (time, fails) = self.call(|state| {
            let network = &mut state.network;
            let hangs = network.draw.once_in(network.faults.hung_lookups);
            let fails = network.draw.once_in(network.faults.failed_lookups);
            let time = network.draw.duration(&network.faults.lookup_time.clone());
            (if hangs { GIVES_UP_AFTER } else { time }, hangs || fails)
        });
        sleep(time);
        let found = self.with(|state| {
            let found = state.names.find(host);
            let count = found.as_ref().map_or(-1, |found| found.len() as i64);
            state.record("lookup", u64::from(fails), count);
            found
        });
        if fails {
            let text = "no name server answers";
            return Err(io::Error::new(ErrorKind::HostUnreachable, text));
        }
        let port = service.parse().map_err(|_| {
            io::Error::new(ErrorKind::InvalidInput, "a simulation knows ports alone")
        })?;
        let addresses = found?.into_iter();
        Ok(addresses.map(|ip| SocketAddr::new(ip, port)).collect())
    }
}
