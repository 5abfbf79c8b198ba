//! The order in which the addresses of one connection are tried.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::sockets::Address;

/// Alternates between the address families, beginning with that of the first address.
pub(super) fn alternate(addresses: Vec<Address>) -> VecDeque<Address> {
    let count = addresses.len();
    let mut first = None;
    let (mut ours, mut others): (VecDeque<_>, VecDeque<_>) = addresses
        .into_iter()
        .partition(|address| *first.get_or_insert(family(address)) == family(address));
    let mut alternating = VecDeque::with_capacity(count);
    while !ours.is_empty() || !others.is_empty() {
        alternating.extend(ours.pop_front());
        alternating.extend(others.pop_front());
    }
    alternating
}

/// The family of an address.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    V4,
    V6,
    Unix,
}

const fn family(address: &Address) -> Family {
    match address {
        Address::Tcp(SocketAddr::V4(_)) => Family::V4,
        Address::Tcp(SocketAddr::V6(_)) => Family::V6,
        Address::Unix(_) | Address::Abstract(_) => Family::Unix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &[&str]) -> Vec<Address> {
        list.iter()
            .map(|address| address.parse().unwrap())
            .collect()
    }

    #[test]
    fn families_take_turns_beginning_with_the_first() {
        let addresses = parse(&[
            "[::1]:1",
            "[::2]:1",
            "127.0.0.1:1",
            "[::3]:1",
            "127.0.0.2:1",
        ]);
        let expected = parse(&[
            "[::1]:1",
            "127.0.0.1:1",
            "[::2]:1",
            "127.0.0.2:1",
            "[::3]:1",
        ]);
        assert_eq!(alternate(addresses), expected);
        let unix = parse(&["unix:a", "127.0.0.1:1", "unix:@b"]);
        assert_eq!(alternate(unix.clone()), unix);
        assert_eq!(alternate(Vec::new()), []);
    }
}
