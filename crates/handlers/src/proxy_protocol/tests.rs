//! Headers of both versions: whole ones, cut ones and broken ones.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::crc32c::checksum;
use super::{Addresses, Header, HeaderError, MAX_LENGTH, Progress, TlvType};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Returns a header of version 2 with this command, this family and this rest.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let [.., high, low] = rest.len().to_be_bytes();
    [SIGNATURE, &[command, family, high, low], rest].concat()
}

/// Parses bytes that begin with a whole header.
#[track_caller]
fn whole(bytes: &[u8]) -> (Header, usize) {
    match Header::parse(bytes) {
        Ok(Progress::Complete { header, length }) => (header, length),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn source(bytes: &[u8]) -> Addresses {
    whole(bytes).0.addresses
}

fn internet(source: &str, destination: &str) -> Addresses {
    Addresses::Internet {
        source: address(source),
        destination: address(destination),
    }
}

#[test]
fn lines_are_parsed_to_the_addresses_that_they_name() {
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET /";
    let four = internet("192.0.2.1:56324", "192.0.2.2:443");
    let header = Header::of(four);
    assert_eq!(whole(line), (header, line.len() - b"GET /".len()));
    let six = internet("[2001:db8::1]:1", "[::]:65535");
    assert_eq!(source(b"PROXY TCP6 2001:db8::1 :: 1 65535\r\n"), six);
    for unknown in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN ffff::1 any rest 0 \xff\r\n",
    ] {
        assert_eq!(source(unknown), Addresses::Unknown);
    }
}

#[test]
fn lines_of_another_form_are_errors() {
    let lines = [
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n",
        "PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 +1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n",
        "PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r \n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n\r\n",
        "PROXY \u{e9} 1.1.1.1 1.1.1.1 1 1\r\n",
    ];
    for line in lines {
        let parsed = Header::parse(line.as_bytes());
        assert_eq!(parsed, Err(HeaderError::MalformedLine), "{line:?}");
    }
    for other in [
        "GET / HTTP/1.1\r\n",
        "PROXIES",
        "PRI * HTTP/2.0\r\n",
        "\x16",
        "\r\n\r\n\r\n",
    ] {
        let parsed = Header::parse(other.as_bytes());
        assert_eq!(parsed, Err(HeaderError::NoHeader), "{other:?}");
    }
}

#[test]
fn a_line_has_107_bytes_at_most() {
    let line = |length: usize| {
        let mut line = b"PROXY UNKNOWN ".to_vec();
        line.resize(length - 2, b'x');
        [&line, &b"\r\n"[..]].concat()
    };
    assert_eq!(whole(&line(107)).1, 107);
    assert_eq!(Header::parse(&line(108)), Err(HeaderError::TooLong));
    let parsed = Header::parse(&line(108)[..106]);
    assert_eq!(parsed, Err(HeaderError::TooLong), "it cannot end in time");
}

#[test]
fn binary_headers_of_every_family_are_parsed() {
    let four = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 187];
    let mut six = [0; 36];
    (six[15], six[33], six[35]) = (1, 7, 8);
    let mut names = [0; 216];
    names[..4].copy_from_slice(b"/a/b");
    names[108..111].copy_from_slice(b"\0xy");
    let names_of = Addresses::Unix {
        source: b"/a/b".to_vec(),
        destination: b"\0xy".to_vec(),
    };
    for (families, rest, expected) in [
        (
            [0x11, 0x12],
            &four[..],
            internet("192.0.2.1:56324", "192.0.2.2:443"),
        ),
        ([0x21, 0x22], &six[..], internet("[::1]:7", "[::]:8")),
        ([0x31, 0x32], &names[..], names_of),
        ([0x00, 0x01], &four[..], Addresses::Unknown),
        ([0x10, 0x20], b"no addresses", Addresses::Unknown),
    ] {
        for family in families {
            let header = binary(0x21, family, rest);
            assert_eq!(source(&header), expected, "{family:#x}");
            let local = binary(0x20, family, rest);
            assert_eq!(source(&local), Addresses::Local, "{family:#x}");
        }
    }
}

#[test]
fn binary_headers_of_another_form_are_errors() {
    let four = [0; 12];
    let parse = |command, family, rest: &[u8]| Header::parse(&binary(command, family, rest));
    for (command, family) in [
        (0x22, 0x11),
        (0x11, 0x11),
        (0x31, 0x11),
        (0x21, 0x13),
        (0x21, 0x41),
        (0x21, 0x03),
        (0x21, 0xf0),
    ] {
        let parsed = parse(command, family, &four);
        assert_eq!(
            parsed,
            Err(HeaderError::Unsupported),
            "{command:#x} {family:#x}"
        );
    }
    assert_eq!(parse(0x21, 0x11, &four[1..]), Err(HeaderError::TooShort));
    assert_eq!(parse(0x21, 0x21, &[0; 35]), Err(HeaderError::TooShort));
    assert_eq!(parse(0x21, 0x31, &[0; 215]), Err(HeaderError::TooShort));
    for fields in [&[0][..], &[4, 0], &[4, 0, 1], &[4, 0, 0, 4, 1, 0]] {
        let rest = [&four, fields].concat();
        assert_eq!(
            parse(0x21, 0x11, &rest),
            Err(HeaderError::MalformedTlv),
            "{fields:?}"
        );
    }
}

#[test]
fn a_binary_header_is_too_long_before_its_rest_has_arrived() {
    let longest = binary(0x20, 0, &[0; MAX_LENGTH - 16]);
    assert_eq!(whole(&longest).1, MAX_LENGTH);
    let longer = binary(0x20, 0, &[0; MAX_LENGTH - 15]);
    assert_eq!(Header::parse(&longer[..16]), Err(HeaderError::TooLong));
}

#[test]
fn a_header_with_a_wrong_checksum_is_an_error() {
    let header = Header::internet(address("192.0.2.1:1"), address("192.0.2.2:2"))
        .with_tlv(TlvType::NOOP, b"x")
        .and_then(|header| header.with_tlv(TlvType::CRC32C, &[0; 4]))
        .and_then(|header| header.with_tlv(TlvType::ALPN, b"h2"))
        .unwrap();
    let mut bytes = header.to_v2();
    let place = bytes.len() - 9..bytes.len() - 5;
    let sum = checksum(bytes.iter().copied()).to_be_bytes();
    bytes[place.clone()].copy_from_slice(&sum);
    assert_eq!(whole(&bytes).0.tlv(TlvType::ALPN), Some(&b"h2"[..]));
    let type_of_checksum = place.start - 3; // of another type, it is no checksum
    for at in (16..bytes.len()).filter(|at| *at != type_of_checksum) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        assert!(Header::parse(&wrong).is_err(), "byte {at}");
    }
    let short = header.with_tlv(TlvType::NOOP, b"").unwrap();
    let short = Header {
        fields: [&[3, 0, 1, 0], &short.fields[..]].concat(),
        ..short
    };
    assert_eq!(
        Header::parse(&short.to_v2()),
        Err(HeaderError::WrongChecksum)
    );
}

#[test]
fn a_header_of_haproxy_with_its_checksum_is_parsed() {
    let of_haproxy =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x16\x7f\0\0\x01\x7f\0\0\x01\xee\x40\xaa\x69\
        \x03\0\x04\x28\x65\xb0\xe8\x05\0\0";
    let header = whole(of_haproxy).0;
    assert_eq!(
        header.addresses,
        internet("127.0.0.1:60992", "127.0.0.1:43625")
    );
    assert_eq!(header.tlv(TlvType::UNIQUE_ID), Some(&[][..]));
    assert_eq!(header.to_v2(), of_haproxy);
}

#[test]
fn a_header_with_fields_is_never_longer_than_may_be_parsed() {
    let header = Header::internet(address("[::1]:1"), address("192.0.2.2:2"));
    let room = MAX_LENGTH - 16 - 36 - 3;
    let full = header
        .clone()
        .with_tlv(TlvType(0xe0), &vec![7; room])
        .unwrap();
    assert_eq!(whole(&full.to_v2()).1, MAX_LENGTH);
    let beyond = header.with_tlv(TlvType(0xe0), &vec![7; room + 1]);
    assert_eq!(beyond, Err(HeaderError::TooLong));
}

fn any_addresses() -> impl Strategy<Value = Addresses> {
    let internet = any::<[SocketAddr; 2]>().prop_map(|[source, destination]| {
        let plain = |address: SocketAddr| (address.ip(), address.port()).into();
        Addresses::Internet {
            source: plain(source),
            destination: plain(destination),
        }
    });
    let name = || prop::collection::vec(1_u8.., 0..=108);
    let unix = (name(), name()).prop_map(|(source, destination)| Addresses::Unix {
        source,
        destination,
    });
    prop_oneof![1 => Just(Addresses::Local), 1 => Just(Addresses::Unknown), 8 => internet, 2 => unix]
}

fn any_header() -> impl Strategy<Value = Header> {
    let value = prop::collection::vec(any::<u8>(), 0..20);
    let fields = prop::collection::vec((4_u8.., value), 0..4);
    (any_addresses(), fields).prop_map(|(addresses, fields)| {
        let has_fields = !matches!(addresses, Addresses::Local | Addresses::Unknown);
        let fields = fields.iter().filter(|_| has_fields);
        fields.fold(Header::of(addresses), |header, (kind, value)| {
            header.with_tlv(TlvType(*kind), value).unwrap()
        })
    })
}

/// Reads as a listener does. Returns the number of bytes that were asked for in all.
fn read_exactly(bytes: &[u8]) -> Result<usize, HeaderError> {
    let mut read = 0;
    loop {
        match Header::parse(&bytes[..read])? {
            Progress::Incomplete(more) if more > 0 => read = bytes.len().min(read + more),
            Progress::Incomplete(_) => panic!("no byte is asked for after {read}"),
            Progress::Complete { length, .. } => {
                assert_eq!(length, read);
                return Ok(read);
            }
        }
    }
}

/// Returns the header as it is after its way over the wire.
fn mapped(header: &Header) -> Header {
    let mut header = header.clone();
    if let Addresses::Internet {
        source,
        destination,
    } = &mut header.addresses
    {
        [*source, *destination] = super::header::of_one_family([*source, *destination]);
    }
    header
}

proptest! {
    #[test]
    fn headers_are_parsed_as_they_were_encoded(header in any_header()) {
        let (parsed, length) = whole(&header.to_v2());
        prop_assert_eq!(length, header.to_v2().len());
        prop_assert_eq!(parsed, mapped(&header));
        let line = source(&header.to_v1());
        match header.addresses {
            Addresses::Internet { .. } => prop_assert_eq!(line, mapped(&header).addresses),
            _ => prop_assert_eq!(line, Addresses::Unknown),
        }
    }

    #[test]
    fn no_byte_after_a_header_is_asked_for(header in any_header(), rest in any::<[u8; 150]>()) {
        for encoded in [header.to_v1(), header.to_v2()] {
            prop_assert_eq!(read_exactly(&[&encoded, &rest[..]].concat()), Ok(encoded.len()));
        }
    }

    #[test]
    fn a_header_that_is_cut_anywhere_asks_for_more(header in any_header()) {
        for encoded in [header.to_v1(), header.to_v2()] {
            for end in 0..encoded.len() {
                match Header::parse(&encoded[..end]) {
                    Ok(Progress::Incomplete(more)) => prop_assert!(more <= encoded.len() - end),
                    other => prop_assert!(false, "{end}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_a_header_or_an_error_or_too_few(
        start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 ", SIGNATURE]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [start, &bytes].concat();
        let parsed = Header::parse(&bytes);
        if let Ok(Progress::Complete { header, length }) = parsed {
            prop_assert!(length <= bytes.len());
            prop_assert_eq!(Header::parse(&bytes[..length]), Header::parse(&bytes));
            prop_assert_eq!(whole(&header.to_v2()).0, header);
        }
    }
}
