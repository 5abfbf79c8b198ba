//! The options of sockets, read back from the kernel, and multicast groups on the loopback
//! interface.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use handlers::udp::{self, MulticastInterface, UdpOptions, UdpSocket};
use reactor::{Next, Reactor};
use rustix::io::Errno;
use rustix::net::sockopt;
use socket2::SockRef;
use support::{Result, turn_until};

use super::local;

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 77);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0x77, 0x77);

fn loopback() -> MulticastInterface {
    MulticastInterface::Name("lo".into())
}

#[track_caller]
fn expect_errno<T>(result: std::io::Result<T>, expected: Errno, text: &str) {
    let error = result.map(drop).expect_err("refused");
    assert_eq!(
        handlers::errno(&error),
        Some(expected.raw_os_error()),
        "{error}"
    );
    assert!(error.to_string().contains(text), "{error}");
}

#[track_caller]
fn expect_invalid(result: std::io::Result<()>, text: &str) {
    let error = result.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn two_sockets_share_an_address_only_by_reuse_port() -> Result {
    let shared = UdpOptions::new().reuse_port(true);
    let first = shared.bind(local(false))?;
    let second = shared.bind(first.local_addr()?)?;
    assert_eq!(first.local_addr()?, second.local_addr()?);
    let alone = UdpOptions::new().bind(first.local_addr()?);
    expect_errno(
        alone,
        Errno::ADDRINUSE,
        &format!("bind {}", first.local_addr()?),
    );
    Ok(())
}

#[test]
fn an_only_v6_socket_leaves_its_port_to_ipv4() -> Result {
    let any: SocketAddr = "[::]:0".parse()?;
    for only_v6 in [false, true] {
        let socket = UdpOptions::new().only_v6(only_v6).bind(any)?;
        assert_eq!(SockRef::from(&socket).only_v6()?, only_v6);
        let port = socket.local_addr()?.port();
        let v4 = UdpSocket::bind(([0, 0, 0, 0], port).into());
        assert_eq!(v4.is_ok(), only_v6, "{v4:?}");
    }
    assert!(
        UdpOptions::new().only_v6(true).bind(local(false)).is_ok(),
        "no effect on IPv4"
    );
    Ok(())
}

#[test]
fn buffers_device_and_prepare_are_set_before_bind_and_connect() -> Result {
    let options = UdpOptions::new()
        .receive_buffer(16 * 1024)
        .send_buffer(0)
        .bind_device("lo")
        .prepare(|fd| {
            let socket = SockRef::from(&fd);
            assert_eq!(socket.device()?.as_deref(), Some(&b"lo"[..]), "set by then");
            assert_eq!(
                socket.local_addr()?.as_socket().map(|at| at.port()),
                Some(0),
                "not bound"
            );
            socket.set_tos_v4(0x10)
        });
    let bound = options.bind(local(false))?;
    for socket in [options.connect(bound.local_addr()?)?, bound] {
        let socket = SockRef::from(&socket);
        assert_eq!(
            socket.recv_buffer_size()?,
            32 * 1024,
            "the kernel doubles it"
        );
        assert!(socket.send_buffer_size()? < 16 * 1024, "the least");
        assert_eq!(socket.tos_v4()?, 0x10);
        assert_eq!(socket.device()?.as_deref(), Some(&b"lo"[..]));
    }
    let greatest = UdpOptions::new()
        .receive_buffer(usize::MAX)
        .bind(local(false))?;
    assert!(SockRef::from(&greatest).recv_buffer_size()? > 32 * 1024);
    Ok(())
}

#[test]
fn errors_of_options_name_the_address_and_the_option() -> Result {
    let refused = UdpOptions::new().prepare(|_fd| Err(Errno::PERM.into()));
    expect_errno(
        refused.bind(local(false)),
        Errno::PERM,
        "bind 127.0.0.1:0: prepare of fd",
    );
    let to: SocketAddr = "127.0.0.1:9".parse()?;
    expect_errno(
        refused.connect(to),
        Errno::PERM,
        "connect 127.0.0.1:9: prepare of fd",
    );
    let nobody = UdpSocket::connect("[::1]:0".parse()?);
    expect_errno(nobody, Errno::INVAL, "connect [::1]:0: ");
    let nowhere = UdpOptions::new().bind_device("nowhere");
    expect_errno(
        nowhere.bind(local(false)),
        Errno::NODEV,
        "SO_BINDTODEVICE, nowhere",
    );
    let error = UdpOptions::new()
        .bind_device("")
        .bind(local(false))
        .map(drop);
    assert_eq!(
        error.map_err(|error| error.kind()),
        Err(ErrorKind::InvalidInput)
    );
    Ok(())
}

#[test]
fn broadcast_is_refused_unless_it_is_set() -> Result {
    let socket = UdpSocket::bind("0.0.0.0:0".parse()?)?;
    for broadcast in [true, false] {
        socket.set_broadcast(broadcast)?;
        assert_eq!(socket.as_std().broadcast()?, broadcast);
    }
    Ok(())
}

#[test]
fn hop_limits_and_loop_are_set_for_both_families_of_a_socket() -> Result {
    for ttl in [1, 255] {
        let v4 = UdpSocket::bind(local(false))?;
        let v6 = UdpSocket::bind("[::]:0".parse()?)?;
        for socket in [&v4, &v6] {
            socket.set_ttl(ttl)?;
            socket.set_multicast_ttl(ttl)?;
            socket.set_multicast_loop(ttl == 1)?;
            assert_eq!(SockRef::from(socket).ttl_v4()?, ttl.into());
            assert_eq!(SockRef::from(socket).multicast_ttl_v4()?, ttl.into());
            assert_eq!(SockRef::from(socket).multicast_loop_v4()?, ttl == 1);
            let call = format!("set_ttl on fd {}: ", socket.as_fd().as_raw_fd());
            expect_invalid(socket.set_ttl(0), &call);
            socket.set_multicast_ttl(0)?;
        }
        let v6 = SockRef::from(&v6);
        assert_eq!(v6.unicast_hops_v6()?, ttl.into());
        assert_eq!(v6.multicast_hops_v6()?, 0);
        assert_eq!(v6.multicast_loop_v6()?, ttl == 1);
    }
    Ok(())
}

/// Returns a number that no other run of these tests has at the same time. The kernel passes a
/// datagram to every wildcard socket while any socket of the host is a member of its group.
fn own_number() -> [u8; 2] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [high, low]
}

/// Returns a group for the test that sends.
fn sent_v4() -> Ipv4Addr {
    let [high, low] = own_number();
    Ipv4Addr::new(239, 254, high, low)
}

/// Sends one datagram to the IPv4 group by `sender`. Returns how many `receiver` has got of it.
fn received(sender: &UdpSocket, receiver: UdpSocket) -> Result<usize> {
    let mut reactor = Reactor::<Vec<Vec<u8>>>::new()?;
    let port = receiver.local_addr()?.port();
    udp::add(&mut reactor, receiver, |datagram, _socket, cx| {
        cx.state.push(datagram.bytes.to_vec());
        Ok(Next::Keep)
    })?;
    sender
        .as_std()
        .send_to(b"to the group", (sent_v4(), port))?;
    // It arrives after the datagram to the group, if that arrives.
    let marker = std::net::UdpSocket::bind(local(false))?;
    marker.send_to(b"marker", (Ipv4Addr::LOCALHOST, port))?;
    let mut seen = Vec::new();
    turn_until(&mut reactor, &mut seen, |seen| {
        seen.last().is_some_and(|last| last == b"marker")
    })?;
    Ok(seen.len() - 1)
}

fn wildcard(v6: bool) -> Result<SocketAddr> {
    Ok(if v6 { "[::]:0" } else { "0.0.0.0:0" }.parse()?)
}

#[test]
fn datagrams_of_a_group_arrive_from_joining_to_leaving() -> Result {
    let sender = UdpSocket::bind(wildcard(false)?)?;
    sender.set_multicast_interface(&loopback())?;

    let stranger = UdpSocket::bind(wildcard(false)?)?;
    assert_eq!(received(&sender, stranger)?, 0, "not joined");

    let member = UdpSocket::bind(wildcard(false)?)?;
    member.join_multicast(sent_v4().into(), &loopback())?;
    assert_eq!(received(&sender, member)?, 1);

    let former = UdpSocket::bind(wildcard(false)?)?;
    former.join_multicast(sent_v4().into(), &loopback())?;
    former.leave_multicast(sent_v4().into(), &loopback())?;
    assert_eq!(received(&sender, former)?, 0, "left");
    Ok(())
}

/// Few hosts have a route for IPv6 multicast on the loopback interface, so nothing can be sent.
#[test]
fn the_kernel_lists_the_ipv6_group_from_joining_to_leaving() -> Result {
    let number = u16::from_be_bytes(own_number());
    // Of the scope of one host.
    let group = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0x78, number);
    let shown = format!("ff01000000000000000000000078{number:04x}");
    let is_member = || -> Result<bool> {
        let groups = std::fs::read_to_string("/proc/self/net/igmp6")?;
        Ok(groups.lines().any(|line| line.contains(&shown)))
    };
    let group = IpAddr::from(group);
    let socket = UdpSocket::bind(wildcard(true)?)?;
    assert!(!is_member()?);
    socket.join_multicast(group, &loopback())?;
    assert!(is_member()?);
    socket.leave_multicast(group, &loopback())?;
    assert!(!is_member()?);
    Ok(())
}

#[test]
fn interfaces_are_named_by_name_index_or_address() -> Result {
    let socket = UdpSocket::bind(wildcard(true)?)?;
    let index = rustix::net::netdevice::name_to_index(socket.as_fd(), "lo")?;
    let same = [
        loopback(),
        MulticastInterface::Index(index),
        MulticastInterface::Address(Ipv4Addr::LOCALHOST),
    ];
    for joined in &same {
        for left in &same {
            // The IPv6 socket joins a group of IPv4 too.
            socket.join_multicast(GROUP_V4.into(), joined)?;
            socket.leave_multicast(GROUP_V4.into(), left)?;
        }
    }
    let v4 = UdpSocket::bind(wildcard(false)?)?;
    for interface in &same {
        v4.set_multicast_interface(interface)?;
    }
    v4.set_multicast_interface(&MulticastInterface::Any)?;
    assert_eq!(sockopt::ip_multicast_if(&v4)?, Ipv4Addr::UNSPECIFIED);
    Ok(())
}

#[test]
fn errors_of_groups_name_the_group() -> Result {
    let socket = UdpSocket::bind(wildcard(true)?)?;
    let no_group = IpAddr::from([127, 0, 0, 1]);
    expect_errno(
        socket.join_multicast(no_group, &loopback()),
        Errno::INVAL,
        "IP_ADD_MEMBERSHIP, 127.0.0.1) on fd",
    );
    for group in [IpAddr::from(GROUP_V4), GROUP_V6.into()] {
        let text = group.to_string();
        socket.join_multicast(group, &loopback())?;
        expect_errno(
            socket.join_multicast(group, &loopback()),
            Errno::ADDRINUSE,
            &text,
        );
        socket.leave_multicast(group, &loopback())?;
        expect_errno(
            socket.leave_multicast(group, &loopback()),
            Errno::ADDRNOTAVAIL,
            &text,
        );
        let greatest = MulticastInterface::Index(i32::MAX.unsigned_abs());
        expect_errno(socket.join_multicast(group, &greatest), Errno::NODEV, &text);
        let unknown = MulticastInterface::Name("nowhere".into());
        let call = format!("{text}) on fd {}: ", socket.as_fd().as_raw_fd());
        expect_errno(socket.join_multicast(group, &unknown), Errno::NODEV, &call);
        let zero = MulticastInterface::Index(0);
        expect_invalid(socket.join_multicast(group, &zero), &call);
        expect_invalid(socket.leave_multicast(group, &zero), &call);
    }
    let by_address = MulticastInterface::Address(Ipv4Addr::LOCALHOST);
    let call = format!("{GROUP_V6}) on fd {}: ", socket.as_fd().as_raw_fd());
    let joined = socket.join_multicast(GROUP_V6.into(), &by_address);
    expect_invalid(joined, &call);
    Ok(())
}
