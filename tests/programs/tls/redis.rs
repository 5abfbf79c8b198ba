//! `redis-cli --tls` and `redis-benchmark --tls`.

use support::is_installed;

use super::Certificates;
use super::clients::{Talking, output_of, run};
use crate::Result;

/// Returns the arguments of a client of Redis that trusts the issuer of the certificates.
fn arguments(certificates: &Certificates, port: &str, more: &[&str]) -> Vec<String> {
    let roots = certificates.path("roots.pem");
    let usual = ["-h", "localhost", "-p", port, "--tls", "--cacert", &roots];
    usual.iter().chain(more).map(ToString::to_string).collect()
}

#[test]
fn redis_cli_stores_subscribes_and_is_told_of_messages() -> Result {
    if !is_installed("redis-cli") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let server = certificates.start("kv_server", &[])?;
    let cli = |more: &[&str]| arguments(&certificates, server.port(), more);
    let ask = |more: &[&str]| output_of("redis-cli", &cli(more));
    let value = "v".repeat(100_000);
    assert_eq!(ask(&["set", "key", &value])?, "OK\n");
    assert_eq!(ask(&["-3", "get", "key"])?, format!("{value}\n"));
    let arguments = cli(&["subscribe", "news"]);
    let mut subscriber = Talking::start("redis-cli", &arguments)?;
    subscriber.expect("subscribe\nnews\n1\n")?;
    assert_eq!(ask(&["publish", "news", "a message"])?, "1\n");
    subscriber.expect("message\nnews\na message\n")
}

#[test]
fn redis_cli_is_served_with_a_certificate_alone() -> Result {
    if !is_installed("redis-cli") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    certificates.issue("client", &["client.example"])?;
    let roots = certificates.path("roots.pem");
    let server = certificates.start("kv_server", &["--tls-client-roots", &roots])?;
    let own = ["client.pem", "client-key.pem"].map(|file| certificates.path(file));
    for (own, is_served) in [(&own[..], true), (&[], false)] {
        let mut more = Vec::new();
        if let [certificate, key] = own {
            more.extend(["--cert", certificate, "--key", key]);
        }
        more.push("ping");
        let arguments = arguments(&certificates, server.port(), &more);
        let said = run("redis-cli", &arguments)?;
        assert_eq!(said.stdout == b"PONG\n", is_served, "{said:?}");
    }
    server.expect_in_log("the peer sent no certificate, and it must", 1)
}

#[test]
fn redis_benchmark_gets_an_answer_to_each_command() -> Result {
    if !is_installed("redis-benchmark") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let server = certificates.start("kv_server", &[])?;
    for pipelined in ["1", "16"] {
        let load = [
            "-n",
            "4000",
            "-c",
            "20",
            "-P",
            pipelined,
            "-t",
            "set,get,incr",
        ];
        let arguments = arguments(&certificates, server.port(), &[&load[..], &["-q"]].concat());
        let said = output_of("redis-benchmark", &arguments)?;
        for command in ["SET", "GET", "INCR"] {
            assert!(said.contains(&format!("{command}: ")), "{said}");
        }
    }
    assert!(!server.log()?.contains("WARN"), "{}", server.log()?);
    Ok(())
}
