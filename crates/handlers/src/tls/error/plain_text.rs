//! Peers that do not speak TLS: which protocol the first bytes belong to.

/// The first bytes of protocols, and their names.
const PROTOCOLS: [(&[u8], &str); 20] = [
    (b"GET ", "plain HTTP"),
    (b"POST", "plain HTTP"),
    (b"PUT ", "plain HTTP"),
    (b"HEAD", "plain HTTP"),
    (b"DELE", "plain HTTP"),
    (b"OPTI", "plain HTTP"),
    (b"PATC", "plain HTTP"),
    (b"CONN", "plain HTTP"),
    (b"TRAC", "plain HTTP"),
    (b"HTTP", "plain HTTP"),
    (b"PRI ", "plain HTTP/2"),
    (b"SSH-", "SSH"),
    (b"EHLO", "plain SMTP"),
    (b"HELO", "plain SMTP"),
    (b"220 ", "plain SMTP or FTP"),
    (b"220-", "plain SMTP or FTP"),
    (b"* OK", "plain IMAP"),
    (b"+OK ", "plain POP3"),
    (b"PROX", "the PROXY protocol"),
    (b"\r\n\r\n", "the PROXY protocol, version 2"),
];

/// Returns the name of the protocol that begins with these bytes. Returns `None` for records of
/// TLS. If only a part of the first bytes has arrived, returns the first protocol that fits.
pub(in crate::tls) fn protocol_of(first_bytes: &[u8]) -> Option<&'static str> {
    let fits = |(start, _): &&(&[u8], _)| {
        let len = start.len().min(first_bytes.len());
        start[..len] == first_bytes[..len]
    };
    match first_bytes {
        [] | [20..=24] | [20..=24, 3, ..] => None,
        // A record of SSL 2.0 has its length in two bytes, whose highest bit is set. Type 1 is a
        // client's hello: RFC 5246 appendix E.2.
        [0x80..=0xff, _, 1, ..] => Some("SSL 2.0"),
        _ => match PROTOCOLS.iter().find(fits) {
            Some((_, name)) => Some(name),
            None => Some("an unknown protocol"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::protocol_of;

    #[test]
    fn first_bytes_name_their_protocol() {
        let cases: [(&[u8], Option<&str>); 11] = [
            (b"GET / HTTP/1.1\r\n", Some("plain HTTP")),
            (b"PRI * HTTP/2.0\r\n", Some("plain HTTP/2")),
            (b"SSH-2.0-OpenSSH", Some("SSH")),
            (b"\x80\x2e\x01\x00\x02", Some("SSL 2.0")),
            (
                b"\r\n\r\n\x00\r\nQUIT\n",
                Some("the PROXY protocol, version 2"),
            ),
            (b"*1\r\n$4\r\nPING", Some("an unknown protocol")),
            (b"\x16\x03\x01\x02\x00", None),
            (b"\x16", None),
            (b"\x16\x04", Some("an unknown protocol")),
            (b"GE", Some("plain HTTP")),
            (b"", None),
        ];
        for (bytes, protocol) in cases {
            assert_eq!(protocol_of(bytes), protocol, "{bytes:?}");
        }
    }
}
