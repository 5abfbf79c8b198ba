//! Sessions that continue earlier ones.

use super::*;
use crate::tls::TlsInfo;

/// Connects some times. Returns how many sessions both peers call resumed.
fn resumed(server: &TlsServerConfig, client: &TlsClientConfig, connects: usize) -> usize {
    let is_resumed = |_: &usize| {
        let (client, server) = established(server, client);
        let [c, s] = [&client, &server].map(|peer| TlsInfo::of(&peer.session).is_resumed());
        assert_eq!(c, s);
        c
    };
    (0..connects).filter(is_resumed).count()
}

#[test]
fn all_sessions_but_the_first_are_resumed() {
    let ca = Authority::new();
    let (server, client) = (ca.server(), ca.client());
    assert_eq!(resumed(&server, &client, 10), 9);
}

#[test]
fn a_session_is_resumed_by_the_loop_of_another_thread() {
    let ca = Authority::new();
    let (server, client) = (ca.server(), ca.client());
    assert_eq!(resumed(&server, &client, 1), 0);
    let (clone, client_clone) = (server.clone(), client.clone());
    let elsewhere = std::thread::spawn(move || resumed(&clone, &client_clone, 3));
    assert_eq!(elsewhere.join().unwrap(), 3);
}

#[test]
fn sessions_are_resumed_after_a_reload() {
    let ca = Authority::new();
    let (server, client) = (ca.server(), ca.client());
    assert_eq!(resumed(&server, &client, 1), 0);
    server.reload().unwrap();
    assert_eq!(resumed(&server, &client, 2), 2);
}

#[test]
fn no_session_of_a_client_certificate_is_resumed_after_a_reload() {
    let ca = Authority::new();
    let server = ca.server_options().require_client_certificates(ca.roots());
    let server = server.load().unwrap();
    let client = ca
        .client_options()
        .certificate(ca.issue(&["client.example"]));
    let client = client.load().unwrap();
    assert_eq!(resumed(&server, &client, 3), 2);
    server.reload().unwrap();
    assert_eq!(resumed(&server, &client, 2), 1);
}

#[test]
fn a_resumed_session_has_the_facts_of_the_first_one() {
    let ca = Authority::new();
    let server = ca.server_options().require_client_certificates(ca.roots());
    let server = server.load().unwrap();
    let client = ca
        .client_options()
        .certificate(ca.issue(&["client.example"]));
    let client = client.load().unwrap();
    let (_, first) = established(&server, &client);
    let (_, second) = established(&server, &client);
    let [one, two] = [&first, &second].map(|peer| TlsInfo::of(&peer.session));
    assert!(two.is_resumed());
    assert_eq!(one.peer_certificates(), two.peer_certificates());
    assert_eq!(two.server_name(), Some(NAME));
}
